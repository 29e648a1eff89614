//! The storage service provider: SCSI controllers whose disks are files of the host.
pub mod scsi;
