use super::*;
use crate::hyperv::hypercall::{HypercallInput, HypercallResult};
use crate::hyperv::types::ConnectionId;
use zerocopy::IntoBytes;

fn access(number: u32, access: MsrResult) -> String {
    MsrAccess { vp: VpIndex(2), number, access }.to_string()
}

#[test]
fn an_msr_access_reads_as_a_line() {
    assert_eq!(access(0x4000_0083, MsrResult::Written(0x7001, Ok(()))), "VP 2 wrmsr SIMP 0x7001 (page at 0x7000)");
    assert_eq!(
        access(0x4000_0083, MsrResult::Written(1 << 60 | 1, Err(Fault::GeneralProtection))),
        "VP 2 wrmsr SIMP 0x1000000000000001 (page at 0x1000000000000000) -> #GP"
    );
    assert_eq!(
        access(0x4000_0092, MsrResult::Read(Ok(MsrRead::Value(0x2_00f3)))),
        "VP 2 rdmsr SINT2 -> 0x200f3 (vector 0xf3, auto-EOI)"
    );
    assert_eq!(
        access(0x4000_00b2, MsrResult::Written(0x2_0003, Ok(()))),
        "VP 2 wrmsr STIMER1_CONFIG 0x20003 (SINT2, enabled, periodic)"
    );
    assert_eq!(
        access(0x4000_00b0, MsrResult::Written(0x1ed9, Ok(()))),
        "VP 2 wrmsr STIMER0_CONFIG 0x1ed9 (vector 0xed, enabled, auto-enable)"
    );
    assert_eq!(access(0x4000_0999, MsrResult::Read(Err(Fault::GeneralProtection))), "VP 2 rdmsr 0x40000999 -> #GP");
    assert_eq!(
        access(0x4000_0072, MsrResult::Read(Ok(MsrRead::Apic(ApicRegister::Tpr)))),
        "VP 2 rdmsr TPR -> the APIC's TPR"
    );
    assert_eq!(access(0x4000_0001, MsrResult::Written(2, Ok(()))), "VP 2 wrmsr HYPERCALL 0x2 (no page) (locked)");
}

fn call(input: HypercallInput, parameters: &[u8], outcome: CallOutcome) -> String {
    Observation { vp: VpIndex(1), input, parameters, outcome }.to_string()
}

#[test]
fn a_hypercall_reads_as_a_line() {
    let signal = SignalEvent { connection_id: ConnectionId(0x11), flag_number: 3, reserved: 0 };
    assert_eq!(
        call(
            HypercallInput::new(CallCode::SIGNAL_EVENT).with_fast(),
            signal.as_bytes(),
            CallOutcome::Done(HvStatus::INVALID_PORT_ID.into())
        ),
        "VP 1 HvCallSignalEvent fast connection 0x11, flag 3 -> HV_STATUS_INVALID_PORT_ID"
    );
    assert_eq!(
        call(HypercallInput(0x7777 | 1 << 63), &[], CallOutcome::Done(HvStatus(0x99).into())),
        "VP 1 call 0x7777 input 0x8000000000007777 -> HV_STATUS 0x99"
    );
    assert_eq!(
        call(HypercallInput::new(CallCode::POST_MESSAGE), &[], CallOutcome::Fault(Fault::UndefinedOpcode)),
        "VP 1 HvCallPostMessage -> #UD"
    );
    let mut parameters = vec![0; 16];
    parameters[8..12].copy_from_slice(&VpIndex::SELF.0.to_le_bytes());
    parameters.extend_from_slice([0x000a_0002u32, 0x0002_0000].as_bytes());
    let result = HypercallResult { status: HvStatus::INVALID_PARAMETER, reps_completed: 1 };
    assert_eq!(
        call(HypercallInput::new(CallCode::GET_VP_REGISTERS).with_rep_count(2), &parameters, CallOutcome::Done(result)),
        "VP 1 HvCallGetVpRegisters reps 0..2 of own VP: SINT2 0x20000 -> HV_STATUS_INVALID_PARAMETER, 1 reps"
    );
}

#[test]
fn a_synic_event_reads_as_a_line_with_its_time() {
    let event = SynicEvent::Message {
        vp: VpIndex(0),
        sint: SintIndex::VMBUS,
        message_type: MessageType::CHANNEL,
        size: 24,
        status: HvStatus::SUCCESS,
    };
    assert_eq!(
        Line { time: 123_456_789, event }.to_string(),
        "[   12.3456789] VP 0 SINT2 message type 0x1, 24 bytes -> HV_STATUS_SUCCESS"
    );
    let interrupt = Interrupt { vector: 0xf3, auto_eoi: true };
    assert_eq!(SynicEvent::Interrupt { vp: VpIndex(1), interrupt }.to_string(), "VP 1 interrupt 0xf3, auto-EOI");
}
