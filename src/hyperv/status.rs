//! `HV_STATUS`: how a hypercall went.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `HV_STATUS`. Open: a value without a name of ours is kept as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct HvStatus(pub u16);

/// What a hypercall handler gives back: its output, or the status that says why there is none.
pub type HvResult<T> = Result<T, HvStatus>;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $tlfs:literal;)*) => {
        impl HvStatus {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Returns the TLFS name, if it has one here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($tlfs),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// The call did what it was asked.
    SUCCESS = 0x00, "HV_STATUS_SUCCESS";
    /// No such call.
    INVALID_HYPERCALL_CODE = 0x02, "HV_STATUS_INVALID_HYPERCALL_CODE";
    /// The input value's rep fields, header size or reserved bits are wrong for the call.
    INVALID_HYPERCALL_INPUT = 0x03, "HV_STATUS_INVALID_HYPERCALL_INPUT";
    /// A parameter list is misaligned, crosses a page or lies outside memory.
    INVALID_ALIGNMENT = 0x04, "HV_STATUS_INVALID_ALIGNMENT";
    /// A parameter's value is wrong.
    INVALID_PARAMETER = 0x05, "HV_STATUS_INVALID_PARAMETER";
    /// The partition lacks the privilege.
    ACCESS_DENIED = 0x06, "HV_STATUS_ACCESS_DENIED";
    /// The operation is not allowed in this state of things.
    OPERATION_DENIED = 0x08, "HV_STATUS_OPERATION_DENIED";
    /// The hypervisor has no memory left for it.
    INSUFFICIENT_MEMORY = 0x0b, "HV_STATUS_INSUFFICIENT_MEMORY";
    /// No such partition, or none that the caller may name.
    INVALID_PARTITION_ID = 0x0d, "HV_STATUS_INVALID_PARTITION_ID";
    /// No such VP.
    INVALID_VP_INDEX = 0x0e, "HV_STATUS_INVALID_VP_INDEX";
    /// The connection's port is gone or of another kind.
    INVALID_PORT_ID = 0x11, "HV_STATUS_INVALID_PORT_ID";
    /// No such connection.
    INVALID_CONNECTION_ID = 0x12, "HV_STATUS_INVALID_CONNECTION_ID";
    /// The port has no message buffer free: try again later.
    INSUFFICIENT_BUFFERS = 0x13, "HV_STATUS_INSUFFICIENT_BUFFERS";
    /// The VP's state does not allow it.
    INVALID_VP_STATE = 0x15, "HV_STATUS_INVALID_VP_STATE";
    /// The target's SynIC, page or SINT is disabled.
    INVALID_SYNIC_STATE = 0x18, "HV_STATUS_INVALID_SYNIC_STATE";
    /// The register takes no such value.
    INVALID_REGISTER_VALUE = 0x50, "HV_STATUS_INVALID_REGISTER_VALUE";
    /// There is no such virtual trust level.
    INVALID_VTL_STATE = 0x51, "HV_STATUS_INVALID_VTL_STATE";
    /// The operation failed, for a reason that is not the caller's.
    OPERATION_FAILED = 0x71, "HV_STATUS_OPERATION_FAILED";
}

impl HvStatus {
    /// Success as `Ok`, all else as `Err`.
    pub fn ok(self) -> HvResult<()> {
        if self == Self::SUCCESS { Ok(()) } else { Err(self) }
    }
}

impl From<HvResult<()>> for HvStatus {
    fn from(result: HvResult<()>) -> Self {
        result.err().unwrap_or(Self::SUCCESS)
    }
}

impl fmt::Display for HvStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "HV_STATUS {:#x}", self.0),
        }
    }
}

impl fmt::Debug for HvStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
