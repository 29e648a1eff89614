//! Remote NDIS: the protocol between a Windows-style network driver and its adapter, designed for USB and used here
//! over VMBus.
//!
//! Control messages initialise the adapter, and get and set its objects (OIDs); [`Adapter`](adapter::Adapter) answers
//! them. Each data message carries a frame with per-packet information about checksums, segmentation and VLAN:
//! [`packet`] and [`info`]. Names and layouts follow MS-DOC "Remote NDIS" and "NDIS", and Linux's
//! `drivers/net/hyperv/hyperv_net.h`.

pub mod adapter;
pub mod info;
pub mod offload;
pub mod oid;
pub mod packet;
pub mod receive_scale;
pub mod set;
pub mod statistics;
pub mod wire;
