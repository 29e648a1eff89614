//! Events as readable lines, for `--trace hypercall,msr,synic`.
//!
//! Nothing here is called unless tracing is enabled.

use std::fmt;

use zerocopy::FromBytes;

use super::hypercall::{
    CallCode, CallOutcome, Flush, Observation, PostMessage, SendSyntheticClusterIpi, SignalEvent, VpRegister,
    VpRegisters,
};
use super::message::MessageType;
use super::msr::{ApicRegister, Msr};
use super::registers::{HypercallRegister, PageRegister, SintRegister, TimerConfig};
use super::status::HvStatus;
use super::types::{Fault, Interrupt, SintIndex, VpIndex};
use super::vp::MsrRead;

/// A traced event with its time.
#[derive(Clone, Copy, Debug)]
pub struct Line<T> {
    /// Reference time.
    pub time: u64,
    /// The event.
    pub event: T,
}

impl<T: fmt::Display> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.time / 10_000_000, self.time % 10_000_000);
        write!(f, "[{seconds:5}.{rest:07}] {}", self.event)
    }
}

/// An MSR access and its result.
#[derive(Clone, Copy, Debug)]
pub struct MsrAccess {
    /// The VP.
    pub vp: VpIndex,
    /// The MSR's number.
    pub number: u32,
    /// The value read or written, and whether the access was allowed.
    pub access: MsrResult,
}

/// The result of an MSR access.
#[derive(Clone, Copy, Debug)]
pub enum MsrResult {
    /// RDMSR.
    Read(Result<MsrRead, Fault>),
    /// WRMSR of this value.
    Written(u64, Result<(), Fault>),
}

impl fmt::Display for MsrAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if matches!(self.access, MsrResult::Read(_)) { "rdmsr" } else { "wrmsr" };
        write!(f, "{} {verb} ", self.vp)?;
        let msr = Msr::decode(self.number);
        match msr {
            Some(msr) => write!(f, "{msr}")?,
            None => write!(f, "{:#x}", self.number)?,
        }
        let value = |f: &mut fmt::Formatter<'_>, value: u64| {
            write!(f, "{value:#x}")?;
            msr.map_or(Ok(()), |msr| decoded(f, msr, value))
        };
        match self.access {
            MsrResult::Read(Ok(MsrRead::Value(read))) => {
                f.write_str(" -> ")?;
                value(f, read)
            }
            MsrResult::Read(Ok(MsrRead::Apic(register))) => write!(f, " -> the APIC's {}", apic_name(register)),
            MsrResult::Read(Ok(MsrRead::Idle)) => f.write_str(" -> idle"),
            MsrResult::Read(Err(fault)) => write!(f, " -> {fault}"),
            MsrResult::Written(written, result) => {
                f.write_str(" ")?;
                value(f, written)?;
                result.err().map_or(Ok(()), |fault| write!(f, " -> {fault}"))
            }
        }
    }
}

fn apic_name(register: ApicRegister) -> &'static str {
    match register {
        ApicRegister::Eoi => "EOI",
        ApicRegister::Icr => "ICR",
        ApicRegister::Tpr => "TPR",
    }
}

/// Writes the fields of a register in words, if it has any.
fn decoded(f: &mut fmt::Formatter<'_>, msr: Msr, value: u64) -> fmt::Result {
    let page = |f: &mut fmt::Formatter<'_>, enabled: bool, gpa: u64| {
        if enabled { write!(f, " (page at {gpa:#x})") } else { f.write_str(" (no page)") }
    };
    match msr {
        Msr::Hypercall => {
            let register = HypercallRegister(value);
            page(f, register.enabled(), register.gpa())?;
            if register.locked() { f.write_str(" (locked)") } else { Ok(()) }
        }
        Msr::Simp | Msr::Siefp | Msr::ReferenceTsc | Msr::VpAssistPage => {
            let register = PageRegister(value);
            page(f, register.enabled(), register.gpa())
        }
        Msr::Sint(_) => {
            let register = SintRegister(value);
            write!(f, " (vector {:#x}", register.vector())?;
            flags(
                f,
                &[(register.masked(), "masked"), (register.auto_eoi(), "auto-EOI"), (register.polling(), "polling")],
            )
        }
        Msr::StimerConfig(_) => {
            let config = TimerConfig(value);
            if config.direct() {
                write!(f, " (vector {:#x}", config.vector())?;
            } else {
                write!(f, " ({}", config.sint())?;
            }
            flags(
                f,
                &[
                    (config.enabled(), "enabled"),
                    (config.periodic(), "periodic"),
                    (config.lazy(), "lazy"),
                    (config.auto_enable(), "auto-enable"),
                ],
            )
        }
        _ => Ok(()),
    }
}

fn flags(f: &mut fmt::Formatter<'_>, flags: &[(bool, &str)]) -> fmt::Result {
    flags.iter().filter(|(set, _)| *set).try_for_each(|(_, name)| write!(f, ", {name}"))?;
    f.write_str(")")
}

/// An event of the SynIC.
#[derive(Clone, Copy, Debug)]
pub enum SynicEvent {
    /// A message was posted to a VP.
    Message {
        /// The VP.
        vp: VpIndex,
        /// The source.
        sint: SintIndex,
        /// The type.
        message_type: MessageType,
        /// Bytes of payload.
        size: usize,
        /// The status.
        status: HvStatus,
    },
    /// An event flag was set on a VP.
    Flag {
        /// The VP.
        vp: VpIndex,
        /// The source.
        sint: SintIndex,
        /// The flag.
        flag: u16,
        /// The status.
        status: HvStatus,
    },
    /// An interrupt was raised on a VP.
    Interrupt {
        /// The VP.
        vp: VpIndex,
        /// The interrupt.
        interrupt: Interrupt,
    },
}

impl fmt::Display for SynicEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { vp, sint, message_type, size, status } => {
                write!(f, "{vp} {sint} message {message_type}, {size} bytes -> {status}")
            }
            Self::Flag { vp, sint, flag, status } => write!(f, "{vp} {sint} flag {flag} -> {status}"),
            Self::Interrupt { vp, interrupt: Interrupt { vector, auto_eoi } } => {
                write!(f, "{vp} interrupt {vector:#x}{}", if *auto_eoi { ", auto-EOI" } else { "" })
            }
        }
    }
}

/// Writes a hypercall: name, form, known parameters, and result.
pub(super) fn hypercall(f: &mut fmt::Formatter<'_>, observation: &Observation<'_>) -> fmt::Result {
    let input = observation.input;
    write!(f, "{} {}", observation.vp, input.code())?;
    if input.fast() {
        f.write_str(" fast")?;
    }
    if input.rep_count() > 0 {
        write!(f, " reps {}..{}", input.rep_start(), input.rep_count())?;
    }
    if input.variable_header() > 0 {
        write!(f, " variable header {}", input.variable_header())?;
    }
    if !input.is_well_formed() {
        write!(f, " input {:#x}", input.0)?;
    }
    parameters(f, observation)?;
    match observation.outcome {
        CallOutcome::Done(result) if input.rep_count() > 0 => {
            write!(f, " -> {}, {} reps", result.status, result.reps_completed)
        }
        CallOutcome::Done(result) => write!(f, " -> {}", result.status),
        CallOutcome::Continue => f.write_str(" -> to be continued"),
        CallOutcome::Fault(fault) => write!(f, " -> {fault}"),
    }
}

fn parameters(f: &mut fmt::Formatter<'_>, observation: &Observation<'_>) -> fmt::Result {
    match observation.input.code() {
        CallCode::POST_MESSAGE => observation.header().map_or(Ok(()), |message: PostMessage| {
            let (to, kind, size) = (message.connection_id, message.message_type, message.payload_size);
            write!(f, " {to}, {kind}, {size} bytes")
        }),
        CallCode::SIGNAL_EVENT => observation
            .header()
            .map_or(Ok(()), |signal: SignalEvent| write!(f, " {}, flag {}", signal.connection_id, signal.flag_number)),
        CallCode::SEND_SYNTHETIC_CLUSTER_IPI => observation.header().map_or(Ok(()), |ipi: SendSyntheticClusterIpi| {
            write!(f, " vector {:#x}, VPs {:#x}", ipi.vector, ipi.processor_mask)
        }),
        CallCode::FLUSH_VIRTUAL_ADDRESS_SPACE | CallCode::FLUSH_VIRTUAL_ADDRESS_LIST => {
            observation.header().map_or(Ok(()), |flush: Flush| {
                write!(
                    f,
                    " space {:#x}, flags {:#x}, VPs {:#x}",
                    flush.address_space, flush.flags.0, flush.processor_mask
                )
            })
        }
        CallCode::GET_VP_REGISTERS => observation.header().map_or(Ok(()), |header: VpRegisters| {
            write!(f, " of {}:", header.vp_index)?;
            let names = &observation.parameters[size_of::<VpRegisters>()..];
            names.chunks_exact(4).take(observation.input.rep_count()).try_for_each(|name| {
                let name = u32::read_from_bytes(name).unwrap_or_default();
                match VpRegister::from_name(name) {
                    Some(register) => write!(f, " {register}"),
                    None => write!(f, " {name:#x}"),
                }
            })
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
