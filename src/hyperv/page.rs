//! The code of the hypercall page.
//!
//! The hypervisor provides the content of the page, so the page can be a doorbell. HvCallSignalEvent in its fast form
//! with flag number 0 writes the connection id to [`SIGNAL_PORT`]. If an ioeventfd is registered for that id, KVM
//! signals it and the VP continues at once. Any other call writes to [`HYPERCALL_PORT`], which exits to user space, and
//! so does the doorbell for an id without an ioeventfd. On the kernel engine, the calls that KVM answers go to KVM by
//! VMCALL or VMMCALL instead.
//!
//! ```text
//!         nop [...]               ; 64-bit: one long instruction. 32-bit: a shorter one, and a jump to entry32
//! entry64:
//!         cmp rcx, 0x1005d        ; HvCallSignalEvent, fast
//!         jne slow64
//!         mov eax, edx            ; the connection id
//!         cmp rax, rdx            ; is anything above it: a flag number?
//!         jne slow64
//!         out SIGNAL_PORT, eax
//!         xor eax, eax            ; HV_STATUS_SUCCESS
//! done64: ret
//! slow64: (kernel engine: cmp cx, code; je kvm; for each call that KVM answers)
//! call:   nop                     ; where a rep call goes on
//!         out HYPERCALL_PORT, al  ; user space leaves the result in RAX, or EDX:EAX
//!         ret
//! entry32:
//!         cmp eax, 0x1005d
//!         jne slow32
//!         test edx, edx           ; the input value's high half
//!         jne slow32
//!         test ebx, ebx           ; the flag number
//!         jne slow32
//!         mov eax, ecx
//!         out SIGNAL_PORT, eax
//!         xor eax, eax            ; EDX is 0 already
//! done32: ret
//! slow32: (kernel engine: cmp ax, code; je kvm; for each)
//!         jmp call
//! kvm:    vmcall or vmmcall
//!         ret
//! ```
//!
//! Only RAX (EAX) changes before an exit, and only if it is not an input: the 64-bit convention does not use RAX, and
//! the 32-bit code has compared EAX by then. RFLAGS is not preserved; callers of a function do not expect that.
//!
//! User space finds RIP at the OUT or behind it, depending on how KVM executed it. [`HypercallPage`]'s methods accept
//! both, and return an address that is neither, which KVM does not adjust when the VP continues.

use super::hypercall::{CallCode, HypercallInput};
use super::overlay::Page;
use super::types::{PAGE_SIZE, PAGE_SIZE_64};

/// The port to which the guest writes connection ids (32 bits). Unused on PCs; below 0x100, as the code's OUT requires.
pub const SIGNAL_PORT: u16 = 0xec;
/// The port to which the guest writes a byte for a hypercall. Unused on PCs; below 0x100.
pub const HYPERCALL_PORT: u16 = 0xea;

/// The instruction for hypercalls to KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvmCall {
    /// VMCALL, on Intel.
    Vmcall,
    /// VMMCALL, on AMD.
    Vmmcall,
}

/// The page, and the places in it that user space needs.
#[derive(Clone, Debug)]
pub struct HypercallPage {
    content: Box<Page>,
    /// The doorbell's OUT and the RET behind it: in the 64-bit code and in the 32-bit code.
    doorbells: [(u64, u64); 2],
    /// The NOP before the OUT of the other calls.
    call: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Entry32,
    Slow64,
    Slow32,
    Call,
    Kvm,
}

/// A minimal assembler: bytes, and jumps over at most 127 of them.
#[derive(Default)]
struct Assembler {
    code: Vec<u8>,
    labels: Vec<(Label, usize)>,
    jumps: Vec<(Label, usize)>,
}

const JE: u8 = 0x74;
const JNE: u8 = 0x75;
const JMP: u8 = 0xeb;
const RET: u8 = 0xc3;
const NOP: u8 = 0x90;

impl Assembler {
    fn emit(&mut self, bytes: &[u8]) -> u64 {
        let at = self.code.len();
        self.code.extend_from_slice(bytes);
        at as u64
    }

    fn jump(&mut self, opcode: u8, target: Label) {
        self.code.extend_from_slice(&[opcode, 0]);
        self.jumps.push((target, self.code.len()));
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    /// Emits OUT SIGNAL_PORT, EAX; XOR EAX, EAX; RET. Returns the places of OUT and RET.
    fn ring(&mut self) -> (u64, u64) {
        let out = self.emit(&[0xe7, SIGNAL_PORT as u8]);
        self.emit(&[0x31, 0xc0]);
        (out, self.emit(&[RET]))
    }

    fn finish(mut self) -> Box<Page> {
        for (target, from) in self.jumps {
            let to = self.labels.iter().find(|(label, _)| *label == target).map_or(from, |(_, at)| *at);
            // The jump is short enough: the code is a fraction of the page, and the tests follow every jump.
            self.code[from - 1] = (to as i64 - from as i64) as i8 as u8;
        }
        let mut page = Box::new([0xcc; PAGE_SIZE]);
        page[..self.code.len()].copy_from_slice(&self.code);
        page
    }
}

impl HypercallPage {
    /// Creates the page of the user engine, or, with `kvm`, that of the kernel engine, which passes these calls on by
    /// that instruction.
    pub fn new(kvm: Option<(KvmCall, &[CallCode])>) -> Self {
        let [low, middle, high, top] = fast_signal().to_le_bytes();
        let passed_on = kvm.map_or(&[][..], |(_, calls)| calls);
        let mut code = Assembler::default();

        // 64-bit: 67 0f 1f 84 with SIB 00 and four bytes of displacement, a NOP of nine bytes. 32-bit: the prefix selects
        // 16-bit addressing, which has two bytes of displacement and no SIB, so the jump is the next instruction.
        code.emit(&[0x67, 0x0f, 0x1f, 0x84, 0x00, 0x00]);
        code.jump(JMP, Label::Entry32);
        code.emit(&[NOP]);

        code.emit(&[0x48, 0x81, 0xf9, low, middle, high, top]);
        code.jump(JNE, Label::Slow64);
        code.emit(&[0x89, 0xd0, 0x48, 0x39, 0xd0]);
        code.jump(JNE, Label::Slow64);
        let doorbell64 = code.ring();
        code.label(Label::Slow64);
        for call in passed_on {
            code.emit(&[0x66, 0x83, 0xf9, call.0 as u8]);
            code.jump(JE, Label::Kvm);
        }
        code.label(Label::Call);
        let call = code.emit(&[NOP, 0xe6, HYPERCALL_PORT as u8, RET]);

        code.label(Label::Kvm);
        if let Some((kvm, _)) = kvm {
            let last = if kvm == KvmCall::Vmcall { 0xc1 } else { 0xd9 };
            code.emit(&[0x0f, 0x01, last, RET]);
        }

        code.label(Label::Entry32);
        code.emit(&[0x3d, low, middle, high, top]);
        code.jump(JNE, Label::Slow32);
        code.emit(&[0x85, 0xd2]);
        code.jump(JNE, Label::Slow32);
        code.emit(&[0x85, 0xdb]);
        code.jump(JNE, Label::Slow32);
        code.emit(&[0x89, 0xc8]);
        let doorbell32 = code.ring();
        code.label(Label::Slow32);
        for call in passed_on {
            code.emit(&[0x66, 0x83, 0xf8, call.0 as u8]);
            code.jump(JE, Label::Kvm);
        }
        code.jump(JMP, Label::Call);

        Self { content: code.finish(), doorbells: [doorbell64, doorbell32], call }
    }

    /// Returns the page's bytes.
    pub fn content(&self) -> &Page {
        &self.content
    }

    /// Returns where a VP continues whose doorbell has exited with RIP at `rip`, with the call's status in RAX
    /// (EDX:EAX): at the RET, past the instruction that would clear it. Returns `None` if `rip` is not at a doorbell.
    pub fn after_doorbell(&self, rip: u64) -> Option<u64> {
        let (_, ret) = self.doorbells.into_iter().find(|(out, _)| is_out(rip, *out))?;
        Some(page_start(rip) + ret)
    }

    /// Returns `true` if a write to [`HYPERCALL_PORT`] with RIP at `rip` comes from this page.
    pub fn is_call(&self, rip: u64) -> bool {
        is_out(rip, self.call + 1)
    }

    /// Returns where a VP continues that must repeat its call. Returns `None` if `rip` is not at a call.
    pub fn call_again(&self, rip: u64) -> Option<u64> {
        self.is_call(rip).then(|| page_start(rip) + self.call)
    }
}

/// Returns the input value of a fast HvCallSignalEvent, which fits into 32 bits.
fn fast_signal() -> u32 {
    HypercallInput::new(CallCode::SIGNAL_EVENT).with_fast().0 as u32
}

/// Returns `true` if `rip` is at the two-byte OUT at this offset of a page, or just behind it.
fn is_out(rip: u64, out: u64) -> bool {
    let offset = rip % PAGE_SIZE_64;
    offset == out || offset == out + 2
}

fn page_start(rip: u64) -> u64 {
    rip - rip % PAGE_SIZE_64
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
