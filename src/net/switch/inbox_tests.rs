use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_lost_frame_is_counted_and_the_bound_is_kept(
        steps in proptest::collection::vec((0..4_usize, 0..70_000_usize, any::<bool>()), 0..300),
    ) {
        let mut waiting = Waiting::default();
        let (mut pushed, mut popped, mut dropped) = (0, 0, 0);
        for (source, length, pop) in steps {
            if pop && length < 20_000 {
                popped += u64::from(waiting.pop().is_some());
            } else {
                pushed += 1;
                dropped += waiting.push(source, Frame::plain(&vec![0; length]));
            }
            let frames: usize = waiting.from.iter().map(|source| source.frames.len()).sum();
            let total: usize = waiting.from.iter().flat_map(|source| &source.frames).map(|frame| cost(frame.bytes.len())).sum();
            prop_assert!(waiting.cost <= INBOX);
            prop_assert_eq!(waiting.cost, total);
            prop_assert_eq!(pushed, popped + dropped + frames as u64);
        }
        while waiting.pop().is_some() {}
        prop_assert_eq!(waiting.cost, 0);
    }
}
