//! The services behind the interrupt vectors of real mode: a minimal BIOS.
//!
//! | interrupt | service |
//! | --- | --- |
//! | 0x08 | counts the ticks at 0x46c, calls interrupt 0x1c, acknowledges |
//! | 0x09 to 0x0f, 0x70 to 0x77 | acknowledges the hardware's interrupt |
//! | 0x10 | function 0x0e prints a character to the console; others do nothing |
//! | 0x11, 0x12 | the equipment word, the conventional memory in KiB |
//! | 0x16 | there is no key: functions 0 and 0x10 wait forever, others report it |
//! | 0x18, 0x19 | nothing to boot from: reset |
//! | 0x1a | function 0 gives the ticks |
//! | 0x13, 0x14, 0x15, 0x17, and 0x1a's others | carry and AH = 0x86: not supported |
//! | others | return |
//!
//! That is all that a guest without disks needs.

use crate::boot::layout::{DEBUG_PORT, SERVICE_CODE};

/// The segment that reaches the code and the reset vector at its end.
const SEGMENT: u64 = 0xf000;
/// The target of a jump to F000:FFF0, the reset vector. The machine's model follows it.
const RESET_VECTOR: usize = 0xff0;
const MODEL: usize = 0xffe;
/// A PC/AT.
const AT: u8 = 0xfc;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Return,
    Tick,
    Acknowledge,
    AcknowledgeBoth,
    Video,
    Equipment,
    MemorySize,
    Keyboard,
    Reset,
    Time,
    Unsupported,
}

/// mov ah, 0x86; push bp; mov bp, sp; or byte [bp+6], 1; pop bp; iret: sets the caller's carry flag.
const UNSUPPORTED: &[u8] = &[0xb4, 0x86, 0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xcf];

/// The services' code, each with its instructions.
const CODE: &[(Service, &[u8])] = &[
    // iret
    (Service::Return, &[0xcf]),
    (
        Service::Tick,
        &[
            0x1e, 0x50, 0x31, 0xc0, 0x8e, 0xd8, // push ds; push ax; xor ax, ax; mov ds, ax
            0x66, 0xff, 0x06, 0x6c, 0x04, // inc dword [0x46c]
            0x66, 0x81, 0x3e, 0x6c, 0x04, 0xb0, 0x00, 0x18, 0x00, // cmp dword [0x46c], 0x1800b0: a day
            0x72, 0x0d, // jb
            0x66, 0xc7, 0x06, 0x6c, 0x04, 0, 0, 0, 0, // mov dword [0x46c], 0
            0xfe, 0x06, 0x70, 0x04, // inc byte [0x470]
            0xcd, 0x1c, // int 0x1c
            0xb0, 0x20, 0xe6, 0x20, 0x58, 0x1f, 0xcf, // mov al, 0x20; out 0x20, al; pop ax; pop ds; iret
        ],
    ),
    // push ax; mov al, 0x20; out 0x20, al; pop ax; iret
    (Service::Acknowledge, &[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]),
    // push ax; mov al, 0x20; out 0xa0, al; out 0x20, al; pop ax; iret
    (Service::AcknowledgeBoth, &[0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf]),
    // cmp ah, 0x0e; jne; out DEBUG_PORT, al; iret
    (Service::Video, &[0x80, 0xfc, 0x0e, 0x75, 0x02, 0xe6, DEBUG_PORT as u8, 0xcf]),
    // push ds; xor ax, ax; mov ds, ax; mov ax, [0x410]; pop ds; iret
    (Service::Equipment, &[0x1e, 0x31, 0xc0, 0x8e, 0xd8, 0xa1, 0x10, 0x04, 0x1f, 0xcf]),
    // The same with [0x413].
    (Service::MemorySize, &[0x1e, 0x31, 0xc0, 0x8e, 0xd8, 0xa1, 0x13, 0x04, 0x1f, 0xcf]),
    (
        Service::Keyboard,
        &[
            0x80, 0xe4, 0xef, 0x75, 0x04, // and ah, 0xef; jne
            0xfb, 0xf4, 0xeb, 0xfc, // sti; hlt; jmp back
            0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x40, 0x5d, 0xcf, // sets the caller's zero flag: no key
        ],
    ),
    // mov al, 0xfe; out 0x64, al; hlt; jmp to the hlt
    (Service::Reset, &[0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd]),
    (
        Service::Time,
        &[
            0x84, 0xe4, 0x75, 0x17, // test ah, ah; jne
            0x1e, 0x31, 0xc0, 0x8e, 0xd8, // push ds; xor ax, ax; mov ds, ax
            0x8b, 0x0e, 0x6e, 0x04, 0x8b, 0x16, 0x6c, 0x04, // mov cx, [0x46e]; mov dx, [0x46c]
            0xa0, 0x70, 0x04, 0xc6, 0x06, 0x70, 0x04, 0x00, // mov al, [0x470]; mov byte [0x470], 0
            0x1f, 0xcf, // pop ds; iret
            // As UNSUPPORTED.
            0xb4, 0x86, 0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xcf,
        ],
    ),
    (Service::Unsupported, UNSUPPORTED),
];

/// Returns the service behind a vector, or `None` if a PC has none.
fn service(vector: u8) -> Option<Service> {
    Some(match vector {
        0x08 => Service::Tick,
        0x09..=0x0f => Service::Acknowledge,
        0x10 => Service::Video,
        0x11 => Service::Equipment,
        0x12 => Service::MemorySize,
        0x13 | 0x14 | 0x15 | 0x17 => Service::Unsupported,
        0x16 => Service::Keyboard,
        0x18 | 0x19 => Service::Reset,
        0x1a => Service::Time,
        // Pointers to tables of video, diskettes and hard disks, and vectors for programs.
        0x1d..=0x1f | 0x41 | 0x46 | 0x60..=0x67 | 0x78.. => return None,
        0x70..=0x77 => Service::AcknowledgeBoth,
        _ => Service::Return,
    })
}

/// Returns the offset of a service from the start of the code.
fn offset(wanted: Service) -> usize {
    CODE.iter().take_while(|(service, _)| *service != wanted).map(|(_, bytes)| bytes.len()).sum()
}

/// Returns the interrupt vectors: an offset and a segment each.
pub(super) fn vectors() -> Vec<u8> {
    let base = SERVICE_CODE.start - (SEGMENT << 4);
    let vector =
        |vector| service(vector).map_or(0, |service| (SEGMENT as u32) << 16 | (base + offset(service) as u64) as u32);
    (0..=u8::MAX).flat_map(|number| vector(number).to_le_bytes()).collect()
}

/// Returns the code, to be written at [`SERVICE_CODE`]: the last 4 KiB below 1 MiB.
pub(super) fn code() -> Vec<u8> {
    let mut code: Vec<u8> = CODE.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    code.resize((SERVICE_CODE.end - SERVICE_CODE.start) as usize, 0);
    // jmp SEGMENT:reset
    let reset = (SERVICE_CODE.start - (SEGMENT << 4)) as usize + offset(Service::Reset);
    let [low, high, ..] = reset.to_le_bytes();
    code[RESET_VECTOR..RESET_VECTOR + 5].copy_from_slice(&[0xea, low, high, 0x00, 0xf0]);
    code[MODEL] = AT;
    code
}
