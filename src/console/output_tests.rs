use super::*;
use std::thread;
use std::time::Duration;

struct Bench {
    queue: OutputQueue,
    gate: Arc<Gate>,
}

impl Bench {
    fn new() -> Self {
        Self { queue: OutputQueue::new(Arc::new(Waker::new().unwrap())), gate: Arc::new(Gate::new()) }
    }

    fn is_awake(&self) -> bool {
        rustix::io::read(&*self.queue.waker, &mut [0; 8]).is_ok()
    }

    fn take(&self) -> Vec<u8> {
        let mut batch = Vec::new();
        self.queue.take(&mut batch);
        batch
    }
}

struct NoKick;

impl crate::kvm::gate::Kick for NoKick {
    fn kick(&self) {}
}

#[test]
fn bytes_are_taken_in_the_order_in_which_they_were_pushed() {
    let bench = Bench::new();
    bench.queue.push(b"one ");
    bench.queue.push(b"two");
    assert_eq!(bench.take(), b"one two");
    assert_eq!(bench.take(), b"");
}

#[test]
fn the_taker_is_woken_once_and_only_when_it_sleeps() {
    let bench = Bench::new();
    bench.queue.push(b"a");
    assert!(!bench.is_awake());
    assert!(!bench.queue.may_sleep(1, false), "there is a byte already");
    bench.take();
    assert!(bench.queue.may_sleep(1, false));
    bench.queue.push(b"b");
    assert!(bench.is_awake());
    bench.queue.push(b"c");
    assert!(!bench.is_awake());
    bench.take();
    assert!(bench.queue.may_sleep(3, false));
    bench.queue.push(b"de");
    assert!(!bench.is_awake());
    bench.queue.push(b"f");
    assert!(bench.is_awake());
}

#[test]
fn producers_that_outrun_the_taker_wait_and_lose_nothing() {
    const EACH: u32 = 3 * CAPACITY as u32 / 4;
    let bench = Bench::new();
    let mut seen = Vec::new();
    thread::scope(|scope| {
        for vp in 0..2 {
            let bench = &bench;
            scope.spawn(move || {
                bench.gate.enter(vp, Box::new(NoKick));
                for number in 0..EACH {
                    bench.queue.push(&(number << 1 | vp).to_le_bytes());
                    bench.queue.wait_for_room(&bench.gate);
                }
                bench.gate.leave(vp);
            });
        }
        while seen.len() < 2 * 4 * EACH as usize {
            let batch = bench.take();
            assert!(batch.len() < CAPACITY + 2 * 4);
            seen.extend(batch);
            thread::sleep(Duration::from_micros(300));
        }
    });
    let mut next = [0; 2];
    for word in seen.chunks_exact(4) {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        let (number, vp) = (word >> 1, (word & 1) as usize);
        assert_eq!(number, next[vp]);
        next[vp] += 1;
    }
    assert_eq!(next, [EACH; 2]);
}

#[test]
fn a_vp_that_waits_for_room_can_be_paused_and_stopped() {
    let bench = Bench::new();
    bench.gate.enter(0, Box::new(NoKick));
    bench.queue.push(&[0; CAPACITY]);
    thread::scope(|scope| {
        let vp = scope.spawn(|| {
            bench.queue.wait_for_room(&bench.gate);
            bench.gate.leave(0);
        });
        bench.gate.pause();
        bench.gate.resume();
        thread::sleep(Duration::from_millis(5));
        assert!(!vp.is_finished());
        bench.gate.stop();
        vp.join().unwrap();
    });
}

#[test]
fn closing_releases_all_waiting_threads_and_drops_the_rest() {
    let bench = Bench::new();
    bench.gate.enter(0, Box::new(NoKick));
    bench.queue.push(&[0; CAPACITY]);
    thread::scope(|scope| {
        let vp = scope.spawn(|| bench.queue.wait_for_room(&bench.gate));
        let finish = scope.spawn(|| bench.queue.finish(None));
        thread::sleep(Duration::from_millis(5));
        assert!(!vp.is_finished() && !finish.is_finished());
        bench.queue.close();
        vp.join().unwrap();
        assert!(!finish.join().unwrap());
    });
    bench.queue.push(&[0; CAPACITY]);
    bench.queue.wait_for_room(&bench.gate);
    assert_eq!(bench.take(), b"");
}

#[test]
fn finish_waits_for_bytes_in_flight_and_not_past_its_deadline() {
    let bench = Bench::new();
    assert!(bench.queue.finish(None), "there is nothing to write");
    bench.queue.push(b"x");
    bench.take();
    assert!(!bench.queue.finish(Some(Instant::now() + Duration::from_millis(2))));
    thread::scope(|scope| {
        let finish = scope.spawn(|| bench.queue.finish(None));
        bench.queue.may_sleep(1, true);
        thread::sleep(Duration::from_millis(2));
        assert!(!finish.is_finished());
        bench.queue.may_sleep(1, false);
        assert!(finish.join().unwrap());
    });
}
