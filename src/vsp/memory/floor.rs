//! The size below which a guest is in danger.

/// Pages in a MiB.
const MIB: u64 = 256;

/// Sizes of guests and of what they need at least, in MiB. Between them, the need grows linearly.
///
/// Linux's own driver refuses to go below these, and QEMU asks no guest for more.
const STEPS: [(u64, u64); 8] =
    [(0, 0), (16, 16), (32, 24), (128, 72), (512, 168), (2048, 360), (8192, 744), (32768, 1512)];

/// Returns the number of pages that a guest with `pages` pages needs at least.
pub fn floor(pages: u64) -> u64 {
    for pair in STEPS.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        if pages <= to * MIB {
            return low * MIB + (pages - from * MIB) * (high - low) / (to - from);
        }
    }
    let (last, need) = STEPS[STEPS.len() - 1];
    need * MIB + (pages - last * MIB) / 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_of_known_sizes() {
        for (mebibytes, need) in [(0, 0), (16, 16), (128, 72), (512, 168), (2048, 360), (8192, 744), (65536, 2024)] {
            assert_eq!(floor(mebibytes * MIB), need * MIB);
        }
    }

    #[test]
    fn the_floor_grows_and_stays_below_the_size() {
        let mut last = 0;
        for pages in (0..100_000 * MIB).step_by(7919) {
            let need = floor(pages);
            assert!(need >= last && need <= pages, "{pages}: {need} after {last}");
            last = need;
        }
    }
}
