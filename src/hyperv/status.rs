//! `HV_STATUS`: the status of a hypercall.

use crate::wire::open_enum;

/// The result of a hypercall handler: its output, or the status of the failure.
pub type HvResult<T> = Result<T, HvStatus>;

open_enum! {
/// `HV_STATUS`. Unknown values are kept.
HvStatus: u16, "HV_STATUS {:#x}";
    /// The call succeeded.
    SUCCESS = 0x00, "HV_STATUS_SUCCESS";
    /// No such call.
    INVALID_HYPERCALL_CODE = 0x02, "HV_STATUS_INVALID_HYPERCALL_CODE";
    /// The input value's rep fields, header size or reserved bits are wrong for the call.
    INVALID_HYPERCALL_INPUT = 0x03, "HV_STATUS_INVALID_HYPERCALL_INPUT";
    /// A parameter list is misaligned, crosses a page, or is outside of memory.
    INVALID_ALIGNMENT = 0x04, "HV_STATUS_INVALID_ALIGNMENT";
    /// The value of a parameter is invalid.
    INVALID_PARAMETER = 0x05, "HV_STATUS_INVALID_PARAMETER";
    /// The partition lacks the privilege.
    ACCESS_DENIED = 0x06, "HV_STATUS_ACCESS_DENIED";
    /// The operation is not allowed in this state.
    OPERATION_DENIED = 0x08, "HV_STATUS_OPERATION_DENIED";
    /// The hypervisor lacks memory for it.
    INSUFFICIENT_MEMORY = 0x0b, "HV_STATUS_INSUFFICIENT_MEMORY";
    /// No such partition, or the caller may not access it.
    INVALID_PARTITION_ID = 0x0d, "HV_STATUS_INVALID_PARTITION_ID";
    /// No such VP.
    INVALID_VP_INDEX = 0x0e, "HV_STATUS_INVALID_VP_INDEX";
    /// The connection's port has been closed, or is of another kind.
    INVALID_PORT_ID = 0x11, "HV_STATUS_INVALID_PORT_ID";
    /// No such connection.
    INVALID_CONNECTION_ID = 0x12, "HV_STATUS_INVALID_CONNECTION_ID";
    /// The port has no free message buffer: try again later.
    INSUFFICIENT_BUFFERS = 0x13, "HV_STATUS_INSUFFICIENT_BUFFERS";
    /// The VP's state does not allow it.
    INVALID_VP_STATE = 0x15, "HV_STATUS_INVALID_VP_STATE";
    /// The target's SynIC, page or SINT is disabled.
    INVALID_SYNIC_STATE = 0x18, "HV_STATUS_INVALID_SYNIC_STATE";
    /// The register does not accept this value.
    INVALID_REGISTER_VALUE = 0x50, "HV_STATUS_INVALID_REGISTER_VALUE";
    /// There is no such virtual trust level.
    INVALID_VTL_STATE = 0x51, "HV_STATUS_INVALID_VTL_STATE";
    /// The operation failed, not because of the caller.
    OPERATION_FAILED = 0x71, "HV_STATUS_OPERATION_FAILED";
}

impl From<HvResult<()>> for HvStatus {
    fn from(result: HvResult<()>) -> Self {
        result.err().unwrap_or(Self::SUCCESS)
    }
}
