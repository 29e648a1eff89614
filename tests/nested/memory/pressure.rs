//! Two stock Linux machines that share a budget of memory, each with a program that uses memory or without.
//!
//! The checks are those of Microsoft's suite for dynamic memory (LISA, `HyperVDynamicMemory`), where the pressure of the host is that of the
//! other machine: hot add, the upper limit, balloon up, the lower limit and balloon down, and hot add, upper limit and balloon down with
//! huge pages. Like there, sizes are read from the driver in the guest.

use std::fmt::Write;
use std::time::Instant;

use viridian::fleet::{Fleet, RunningFleet};

use super::guest::{MIB, counted, resident, total};
use crate::common::patience::{grown, holds_within};
use crate::common::stock::{SOON, Shell, image_file, variable};

const BUDGET: u64 = 896 * MIB;
const STARTUP: u64 = 384 * MIB;
const MIN: u64 = 256 * MIB;
const MAX: u64 = 640 * MIB;
/// The machines, and the weights by which they share what is scarce.
const MACHINES: [(&str, u32); 2] = [("light", 100), ("heavy", 200)];
const LIGHT: usize = 0;
const HEAVY: usize = 1;
/// Available memory of a guest that uses all: what its program leaves, and the room for one of its steps.
const NEARLY_NOTHING: u64 = 72 * MIB;
/// Upper bound of this process's memory without the guests'.
const OVERHEAD: u64 = 48 * MIB;
/// What Microsoft's suite tolerates at a limit, and between the sizes that host and guest see.
const TOLERANCE: u64 = 128 * MIB;

/// Both machines.
pub struct Lab {
    fleet: RunningFleet,
    shells: Vec<Shell>,
}

impl Lab {
    /// Boots both, and waits for their shells.
    pub fn boot() -> Self {
        let mut text = format!("memory-budget = '{BUDGET}'\n");
        for (name, weight) in MACHINES {
            let (kernel, initrd, engine) = (image_file("vmlinux"), image_file("initrd.img"), variable("ENGINE"));
            write!(
                text,
                "[[partition]]\nname = '{name}'\nweight = {weight}\nengine = '{engine}'\nkernel = {kernel:?}\ninitrd = {initrd:?}\n\
                 memory = 'startup={STARTUP},min={MIN},max={MAX},cold-discard=off'\n\
                 cmdline = 'console=ttyS0 quiet panic=-1 memhp_default_state=online'\n"
            )
            .expect("a string");
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it is written");
        let mut fleet = Fleet::load(file.path()).expect("valid settings");
        for (name, _) in MACHINES {
            fleet = fleet.customize(name, |machine| machine.capture_console());
        }
        let fleet = fleet.prepare().expect("they can start").start().expect("they start");
        let shell = |(name, _)| {
            let console = fleet.with(name, |machine| machine.console().cloned()).flatten();
            Shell::ready(&console.expect("it is captured"))
        };
        let shells = MACHINES.map(shell).into();
        Self { fleet, shells }
    }

    /// Returns a number of the state of a machine's memory.
    fn memory(&self, machine: usize, name: &str) -> u64 {
        let state = self.fleet.with(MACHINES[machine].0, |machine| machine.inspect()["devices"]["memory"].clone());
        let state = state.expect("it runs");
        state[name].as_u64().unwrap_or_else(|| panic!("{name} is a number in {state}"))
    }

    /// Returns the size of each machine in bytes.
    fn sizes(&self) -> [u64; 2] {
        let size = |machine| self.memory(machine, "assigned-bytes");
        let sizes = [size(LIGHT), size(HEAVY)];
        // Memory may have moved from the first to the second machine between the two.
        let sizes = [sizes[LIGHT].min(size(LIGHT)), sizes[HEAVY]];
        assert!(sizes.iter().sum::<u64>() <= BUDGET, "{sizes:?} are more than the budget");
        sizes
    }

    /// Waits until each machine's size is near the expected one, and prints how long that takes.
    fn until(&self, what: &str, expected: [u64; 2]) {
        let begun = Instant::now();
        let near = |size: u64, expected: u64| size.abs_diff(expected) <= 24 * MIB;
        let so = holds_within(grown(4 * SOON), || {
            let sizes = self.sizes();
            near(sizes[LIGHT], expected[LIGHT]) && near(sizes[HEAVY], expected[HEAVY])
        });
        let [light, heavy] = self.sizes().map(|size| size / MIB);
        let demands = [LIGHT, HEAVY].map(|machine| self.memory(machine, "demand-bytes") / MIB);
        assert!(
            so,
            "{what}: the sizes are {light} and {heavy} MiB, not {:?}; the demands are {demands:?}",
            expected.map(|size| size / MIB)
        );
        println!("measured: {what}: {light} and {heavy} MiB after {:.1} s", begun.elapsed().as_secs_f64());
        [LIGHT, HEAVY].into_iter().for_each(|machine| self.agree(machine));
    }

    /// Checks that host and guest see the same size, once it has stopped to change: a guest that has given too little is asked again.
    fn agree(&self, machine: usize) {
        let assigned = || self.memory(machine, "assigned-bytes");
        let seen = || (assigned(), self.net(machine), total(&self.shells[machine]), assigned());
        let agrees = holds_within(grown(SOON), || {
            let (before, net, total, after) = seen();
            before == after && STARTUP as i64 + net == after as i64 && total <= after && after - total <= 512 * MIB
        });
        assert!(agrees, "size, change of size, MemTotal, and size again: {:?}", seen());
    }

    /// Returns how many bytes the guest's driver has added, less those that it has released.
    fn net(&self, machine: usize) -> i64 {
        let shell = &self.shells[machine];
        counted(shell, "pages_added") as i64 - counted(shell, "pages_ballooned") as i64
    }

    /// Has a machine need more memory than its maximum, which it does not use yet: what a guest uses, it does not give.
    fn press(&self, machine: usize, how: &str) {
        self.shells[machine].run(&format!("stress {} {how} >/dev/null & echo begun", MAX / MIB));
    }

    /// Has the machines use all that they have and get, and waits until they do.
    fn fill(&self, machines: &[usize]) {
        let begun = Instant::now();
        machines.iter().for_each(|&machine| drop(self.shells[machine].run("killall -USR1 stress")));
        for &machine in machines {
            let available = || self.counted(machine, "MemAvailable");
            let is_used = holds_within(grown(2 * SOON), || available() < NEARLY_NOTHING);
            assert!(is_used, "the guest uses what it has: {} bytes are available", available());
        }
        println!("measured: all of it is used after {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn relax(&self, machine: usize) {
        self.shells[machine].run("killall stress; while pidof stress >/dev/null; do sleep 0.1; done");
    }

    /// Returns a number of the guest's memory, in bytes.
    fn counted(&self, machine: usize, name: &str) -> u64 {
        let text = self.shells[machine].run(&format!("sed -n 's/^{name}: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"));
        text.parse::<u64>().expect("a number") * 1024
    }

    /// Ends both.
    pub fn end(self) {
        for shell in &self.shells {
            shell.begin("poweroff -f");
        }
        for outcome in self.fleet.wait() {
            assert_eq!(outcome.end.exit_code(), 0, "{outcome:?}");
        }
    }
}

/// The lower limit. The maximum of one and the minimum of the other are the budget.
pub fn idle_machines_have_their_minimum(lab: &Lab) {
    lab.until("two idle machines", [MIN, MIN]);
    for machine in [LIGHT, HEAVY] {
        let lower = lab.net(machine) - (MIN as i64 - STARTUP as i64);
        assert!(lower.unsigned_abs() <= TOLERANCE, "{lower}");
    }
}

/// Of what is left above the minimums, 384 MiB, the first machine gets a third.
pub fn both_under_pressure_share_by_weight(lab: &Lab) {
    let before = lab.net(LIGHT);
    lab.press(LIGHT, "");
    lab.press(HEAVY, "");
    let shares = [MIN + 128 * MIB, MIN + 256 * MIB];
    lab.until("both under pressure", shares);
    assert!(lab.net(LIGHT) > before, "balloon down");
    assert!(lab.net(HEAVY) > 0, "hot add");
    lab.fill(&[LIGHT, HEAVY]);
    lab.until("both use what they have", shares);
}

/// Hot add, and the upper limit.
pub fn one_under_pressure_grows_to_its_maximum(lab: &Lab) {
    let before = lab.net(HEAVY);
    lab.relax(HEAVY);
    lab.until("one under pressure", [MAX, MIN]);
    assert!(lab.net(HEAVY) < before, "balloon up, by the pressure of the other machine");
    let upper = lab.net(LIGHT) - (MAX as i64 - STARTUP as i64);
    assert!(upper.unsigned_abs() <= TOLERANCE, "{upper}");
    lab.fill(&[LIGHT]);
}

pub fn memory_goes_back_when_the_pressure_ends(lab: &Lab) {
    let before = resident();
    lab.relax(LIGHT);
    lab.until("no pressure", [MIN, MIN]);
    let is_freed = holds_within(grown(SOON), || resident() <= 2 * MIN + OVERHEAD);
    println!("measured: resident memory fell from {} to {} MiB", before / MIB, resident() / MIB);
    assert!(before > 2 * MIN + OVERHEAD, "only {before} bytes were resident: this shows nothing");
    assert!(is_freed, "{before} bytes were resident, and now {}", resident());
}

/// The same with huge pages, on the other machine for hot add, and then once more with memory that comes from the balloon.
pub fn huge_pages_grow_to_the_maximum_too(lab: &Lab) {
    for machine in [HEAVY, LIGHT] {
        // Linux has none if it starts with little memory.
        lab.shells[machine].run("echo madvise >/sys/kernel/mm/transparent_hugepage/enabled");
        let before = lab.net(machine);
        lab.press(machine, "huge");
        let mut expected = [MIN; 2];
        expected[machine] = MAX;
        lab.until("one under pressure with huge pages", expected);
        assert!(lab.net(machine) > before && lab.net(machine) > 0);
        lab.fill(&[machine]);
        let huge = lab.counted(machine, "AnonHugePages");
        assert!(huge > 128 * MIB, "the program has {huge} bytes in huge pages");
        println!("measured: {} MiB are in huge pages", huge / MIB);
        lab.relax(machine);
        lab.until("no pressure", [MIN, MIN]);
    }
}
