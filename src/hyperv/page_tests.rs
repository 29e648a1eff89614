use super::*;
use proptest::prelude::*;

const PORT_BYTE: u8 = SIGNAL_PORT as u8;
const CALL: u8 = HYPERCALL_PORT as u8;

/// The address at which the guest has mapped the page.
const BASE: u64 = 0x7fff_8000_1000;
const BASE32: u64 = 0x8000_1000;

/// The effect of executing the page on a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Signal { rip: u64, connection: u32 },
    Call { rip: u64 },
    Kvm(KvmCall),
    Return,
}

/// A processor that executes only the instructions of the page, with RAX, RBX, RCX, RDX, and RIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processor {
    long: bool,
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rip: u64,
    zero: bool,
}

impl Processor {
    fn new(long: bool, rax: u64, rbx: u64, rcx: u64, rdx: u64) -> Self {
        Self { long, rax, rbx, rcx, rdx, rip: if long { BASE } else { BASE32 }, zero: false }
    }

    /// Runs until an event.
    fn run(&mut self, page: &HypercallPage) -> Event {
        (0..100).find_map(|_| self.step(page)).expect("the page runs in a circle")
    }

    fn compare(&mut self, one: u64, other: u64) {
        self.zero = one == other;
    }

    fn step(&mut self, page: &HypercallPage) -> Option<Event> {
        let start = self.rip;
        let code = &page.content()[(start % PAGE_SIZE_64) as usize..];
        let word = |at: usize| u32::from_le_bytes(code[at..at + 4].try_into().unwrap());
        let short = |at: usize| i64::from(code[at] as i8);
        let (length, event) = match (self.long, code) {
            (true, [0x67, 0x0f, 0x1f, 0x84, ..]) => (9, None),
            (false, [0x67, 0x0f, 0x1f, 0x84, ..]) => (6, None),
            (_, [NOP, ..]) => (1, None),
            (_, [RET, ..]) => (1, Some(Event::Return)),
            (_, [JMP, ..]) => (2 + short(1), None),
            (_, [JE, ..]) => (2 + if self.zero { short(1) } else { 0 }, None),
            (_, [JNE, ..]) => (2 + if self.zero { 0 } else { short(1) }, None),
            (true, [0x48, 0x81, 0xf9, ..]) => {
                self.compare(self.rcx, word(3) as i32 as u64);
                (7, None)
            }
            (_, [0x66, 0x83, 0xf9, code, ..]) => {
                self.compare(self.rcx as u16 as u64, u64::from(*code));
                (4, None)
            }
            (_, [0x66, 0x83, 0xf8, code, ..]) => {
                self.compare(self.rax as u16 as u64, u64::from(*code));
                (4, None)
            }
            (true, [0x48, 0x39, 0xd0, ..]) => {
                self.compare(self.rax, self.rdx);
                (3, None)
            }
            (_, [0x89, 0xd0, ..]) => {
                self.rax = u64::from(self.rdx as u32);
                (2, None)
            }
            (_, [0x89, 0xc8, ..]) => {
                self.rax = u64::from(self.rcx as u32);
                (2, None)
            }
            (false, [0x3d, ..]) => {
                self.compare(u64::from(self.rax as u32), word(1).into());
                (5, None)
            }
            (_, [0x85, 0xd2, ..]) => {
                self.compare(u64::from(self.rdx as u32), 0);
                (2, None)
            }
            (_, [0x85, 0xdb, ..]) => {
                self.compare(u64::from(self.rbx as u32), 0);
                (2, None)
            }
            (_, [0x31, 0xc0, ..]) => {
                self.rax = 0;
                self.zero = true;
                (2, None)
            }
            (_, [0xe7, PORT_BYTE, ..]) => (2, Some(Event::Signal { rip: start, connection: self.rax as u32 })),
            (_, [0xe6, CALL, ..]) => (2, Some(Event::Call { rip: start })),
            (_, [0x0f, 0x01, 0xc1, ..]) => (3, Some(Event::Kvm(KvmCall::Vmcall))),
            (_, [0x0f, 0x01, 0xd9, ..]) => (3, Some(Event::Kvm(KvmCall::Vmmcall))),
            _ => panic!("no such instruction at {start:#x}: {:x?}", &code[..8]),
        };
        self.rip = start.wrapping_add_signed(length);
        event
    }
}

const SIGNAL: u64 = 0x1005d;

fn pages() -> [HypercallPage; 3] {
    [None, Some(KvmCall::Vmcall), Some(KvmCall::Vmmcall)]
        .map(|kvm| HypercallPage::new(kvm.map(|instruction| (instruction, &CallCode::ANSWERED_BY_KVM[..]))))
}

#[test]
fn a_fast_signal_rings_the_doorbell_and_returns_success_by_either_convention() {
    for page in pages() {
        let mut long = Processor::new(true, 0xdead, 7, SIGNAL, 0x12345);
        assert!(matches!(long.run(&page), Event::Signal { connection: 0x12345, .. }));
        assert_eq!((long.run(&page), long.rax), (Event::Return, 0));
        assert_eq!((long.rbx, long.rcx, long.rdx), (7, SIGNAL, 0x12345));

        let mut protected = Processor::new(false, SIGNAL, 0, 0x54321, 0);
        assert!(matches!(protected.run(&page), Event::Signal { connection: 0x54321, .. }));
        assert_eq!((protected.run(&page), protected.rax, protected.rdx), (Event::Return, 0, 0));
        assert_eq!((protected.rbx, protected.rcx), (0, 0x54321));
    }
}

#[test]
fn a_signal_with_a_flag_number_or_with_parameters_in_memory_is_an_ordinary_call() {
    for page in pages() {
        for (rcx, rdx) in
            [(SIGNAL, 1 << 32 | 5), (SIGNAL, 1 << 48), (0x5d, 5), (SIGNAL | 1 << 32, 5), (SIGNAL | 1 << 63, 5)]
        {
            let mut long = Processor::new(true, 0, 0, rcx, rdx);
            assert!(matches!(long.run(&page), Event::Call { .. }), "{rcx:#x} {rdx:#x}");
        }
        for (eax, ebx, edx) in [(SIGNAL, 1, 0), (0x5d, 0, 0), (SIGNAL, 0, 1)] {
            let mut protected = Processor::new(false, eax, ebx, 5, edx);
            assert!(matches!(protected.run(&page), Event::Call { .. }), "{eax:#x} {ebx:#x} {edx:#x}");
        }
    }
}

#[test]
fn calls_answered_by_kvm_go_to_kvm_on_the_kernel_engine_only() {
    let [user, intel, amd] = pages();
    for code in (0..0x200).map(CallCode) {
        let goes_to = |page, long| match long {
            true => Processor::new(true, 0, 0, u64::from(code.0) | 1 << 16, 0).run(page),
            false => Processor::new(false, u64::from(code.0), 0, 0, 0).run(page),
        };
        for long in [true, false] {
            assert!(matches!(goes_to(&user, long), Event::Call { .. } | Event::Signal { .. }));
            if CallCode::ANSWERED_BY_KVM.contains(&code) {
                assert_eq!(goes_to(&intel, long), Event::Kvm(KvmCall::Vmcall), "{code}");
                assert_eq!(goes_to(&amd, long), Event::Kvm(KvmCall::Vmmcall), "{code}");
            } else {
                assert!(!matches!(goes_to(&intel, long), Event::Kvm(_)), "{code}");
            }
        }
    }
}

#[test]
fn an_unanswered_doorbell_returns_the_status_that_user_space_leaves() {
    for page in pages() {
        for (long, mut processor) in
            [(true, Processor::new(true, 0, 0, SIGNAL, 9)), (false, Processor::new(false, SIGNAL, 0, 9, 0))]
        {
            let Event::Signal { rip, .. } = processor.run(&page) else { panic!("no doorbell, long: {long}") };
            for seen in [rip, rip + 2] {
                let mut processor = Processor { rip: page.after_doorbell(seen).unwrap(), rax: 0x12, ..processor };
                assert_eq!((processor.run(&page), processor.rax), (Event::Return, 0x12));
            }
            assert_ne!(page.after_doorbell(rip), Some(rip), "KVM would take the OUT for unfinished");
            assert_eq!(page.call_again(rip), None);
        }
    }
}

#[test]
fn a_call_that_continues_is_made_again_with_the_same_registers() {
    for page in pages() {
        for mut processor in [Processor::new(true, 0, 1, 0x50, 2), Processor::new(false, 0x50, 1, 2, 3)] {
            let Event::Call { rip } = processor.run(&page) else { panic!("no call") };
            assert!(page.is_call(rip) && page.is_call(rip + 2));
            for seen in [rip, rip + 2] {
                let mut again = Processor { rip: page.call_again(seen).unwrap(), ..processor };
                assert_eq!(again.run(&page), Event::Call { rip });
                assert_eq!(again, processor);
            }
            assert_ne!(page.call_again(rip), Some(rip), "KVM would take the OUT for unfinished");
            assert_eq!(page.after_doorbell(rip), None);
            assert_eq!(processor.run(&page), Event::Return);
        }
    }
}

#[test]
fn addresses_outside_of_the_call_instructions_are_not_recognised() {
    let page = HypercallPage::new(None);
    for offset in (0..PAGE_SIZE_64).filter(|offset| !page.is_call(BASE + offset)) {
        assert_eq!(page.call_again(BASE + offset), None);
    }
    assert_eq!((0..PAGE_SIZE_64).filter(|offset| page.is_call(BASE + offset)).count(), 2);
    assert_eq!((0..PAGE_SIZE_64).filter(|offset| page.after_doorbell(BASE + offset).is_some()).count(), 4);
}

#[test]
fn the_rest_of_the_page_is_breakpoints() {
    for page in pages() {
        let end = page.content().iter().rposition(|byte| *byte != 0xcc).unwrap();
        assert!(end < 256, "{end}");
    }
}

proptest! {
    /// With any registers, there is an event at once, and an exit finds every input unchanged.
    #[test]
    fn any_registers_reach_the_exit_unchanged(
        long: bool, rax: u64, rbx: u64, rdx: u64, rcx in prop_oneof![any::<u64>(), Just(SIGNAL), 0u64..0x20], kind in 0usize..3,
    ) {
        let page = &pages()[kind];
        let (mask, rax) = if long { (u64::MAX, rax) } else { (u64::from(u32::MAX), rcx) };
        let before = Processor::new(long, rax & mask, rbx & mask, rcx & mask, rdx & mask);
        let mut after = before;
        match after.run(page) {
            Event::Signal { connection, .. } => {
                let (input, parameter) = if long { (rcx, rdx) } else { (rdx << 32 | rax & mask, rbx << 32 | rcx & mask) };
                prop_assert_eq!((input, parameter), (SIGNAL, u64::from(connection)));
            }
            Event::Call { rip } => {
                prop_assert!(page.is_call(rip));
                prop_assert!(long || after.rax == before.rax, "EAX is an input of the 32-bit convention");
            }
            Event::Kvm(_) => prop_assert!(kind > 0 && (long || after.rax == before.rax)),
            Event::Return => prop_assert!(false, "returned without a call"),
        }
        prop_assert_eq!((after.rbx, after.rcx, after.rdx), (before.rbx, before.rcx, before.rdx));
    }
}
