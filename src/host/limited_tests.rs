use super::*;
use proptest::prelude::*;

static FLOOD: Site = Site::new(Level::Warn, "limited");
static NEIGHBORS: Site = Site::new(Level::Warn, "limited");
static CROWD: Site = Site::new(Level::Warn, "limited");

fn is_printed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Print { .. })
}

#[test]
fn a_flood_of_lines_is_cut_after_the_burst_and_the_rest_is_counted() {
    let now = Instant::now();
    let verdicts: Vec<_> = (0..1793).map(|_| FLOOD.judge("flood", now)).collect();
    assert_eq!(verdicts.iter().filter(|verdict| is_printed(**verdict)).count(), BURST as usize);
    assert_eq!(verdicts[0], Verdict::Print { left_out: 0, last: false });
    assert_eq!(verdicts[BURST as usize - 1], Verdict::Print { left_out: 0, last: true });
    assert_eq!(FLOOD.finish("flood"), 1793 - u64::from(BURST));
    assert_eq!(
        FLOOD.judge("flood", now),
        Verdict::Print { left_out: 0, last: false },
        "the next one of that name begins anew"
    );
}

#[test]
fn a_flood_of_one_machine_does_not_suppress_lines_of_others() {
    let now = Instant::now();
    assert_eq!((0..1000).filter(|_| is_printed(NEIGHBORS.judge("evil", now))).count(), BURST as usize);
    assert_eq!(NEIGHBORS.judge("neighbor", now), Verdict::Print { left_out: 0, last: false });
    assert_eq!(NEIGHBORS.finish("neighbor"), 0);
    assert_eq!(NEIGHBORS.finish("evil"), 1000 - u64::from(BURST));
}

#[test]
fn after_an_interval_a_line_is_printed_and_says_how_many_were_left_out() {
    let start = Instant::now();
    let mut bucket = Bucket::new(start);
    assert_eq!((0..BURST + 7).filter(|_| is_printed(bucket.judge(start))).count(), BURST as usize);
    assert_eq!(bucket.judge(start + INTERVAL), Verdict::Print { left_out: 7, last: true });
    assert_eq!(bucket.judge(start + INTERVAL), Verdict::LeaveOut);
    let quiet = start + INTERVAL * 100;
    assert_eq!(bucket.judge(quiet), Verdict::Print { left_out: 1, last: false });
    assert_eq!((1..BURST).filter(|_| is_printed(bucket.judge(quiet))).count(), BURST as usize - 1);
    assert_eq!(bucket.judge(quiet), Verdict::LeaveOut);
}

#[test]
fn more_machines_than_are_remembered_share_a_limit() {
    let now = Instant::now();
    let printed = (0..10_000).filter(|number| is_printed(CROWD.judge(&format!("machine {number}"), now))).count();
    assert_eq!(printed, MAX_MACHINES + BURST as usize);
    assert!(CROWD.machines.lock().buckets.len() <= MAX_MACHINES + 1);
}

proptest! {
    #[test]
    fn no_more_lines_are_printed_than_the_burst_and_one_an_interval(pauses in prop::collection::vec(0_u64..200, 1..300)) {
        let start = Instant::now();
        let (mut bucket, mut now) = (Bucket::new(start), start);
        let (mut printed, mut told) = (0, 0);
        for pause in &pauses {
            now += Duration::from_secs(*pause);
            if let Verdict::Print { left_out, .. } = bucket.judge(now) {
                printed += 1;
                told += left_out;
            }
        }
        let intervals = (now - start).as_secs() / INTERVAL.as_secs();
        prop_assert!(printed <= u64::from(BURST) + intervals);
        prop_assert_eq!(printed + told + bucket.left_out, pauses.len() as u64, "each is printed or counted");
    }
}
