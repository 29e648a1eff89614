//! Remote NDIS: the messages by which a Windows-style network driver and its adapter speak, over USB once and over VMBus here.
//!
//! Control messages initialise the adapter and get and set its objects (OIDs); [`Adapter`](adapter::Adapter) answers them. Data messages carry
//! a frame each, with notes about checksums, segmentation and VLAN beside it: [`packet`] and [`info`].
//! Names and layouts follow MS-DOC "Remote NDIS" and "NDIS", and Linux's `drivers/net/hyperv/hyperv_net.h`.

pub mod adapter;
pub mod info;
pub mod offload;
pub mod oid;
pub mod packet;
pub mod receive_scale;
pub mod set;
pub mod statistics;
pub mod wire;
