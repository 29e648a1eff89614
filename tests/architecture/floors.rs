//! Rules about the dependencies between modules.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{ModulePath, Tree};

/// The floors, from the top down. A module uses those of its own floor and of the floors below it.
const FLOORS: [&[&str]; 22] = [
    // The program. It uses the library as any other user does.
    &["main", "cli"],
    // For the package's own tests, benches and fuzzers.
    &["internals"],
    // Access to a fleet from other processes.
    &["control"],
    &["fleet"],
    &["machine"],
    // Above the providers: a machine's settings contain those of its disks, its adapters and its console, and each part
    // defines its own.
    &["config"],
    &["vsp"],
    &["vmbus"],
    &["engine"],
    &["hyperv"],
    &["platform"],
    &["console"],
    // The contract of devices when their machine pauses, resumes, is reset or saved. Each device implements it in its own
    // folder.
    &["device"],
    &["boot"],
    // Only bytes. They are the default kernel of a machine.
    &["guest_images"],
    &["block"],
    &["net"],
    // Above the memory, because a VM maps it.
    &["kvm"],
    &["memory"],
    &["host"],
    &["wire"],
    // Only tests use these. They come from `tests/common`.
    &["need", "patience", "need_tests", "patience_tests"],
];

/// Returns the number of a module's floor, counted from the top.
fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|names| names.contains(&name))
}

/// Returns the uses of higher floors. Modules for tests may use any floor: a test of a device may start a machine.
fn steps_up(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for module in tree.production().filter(|module| !module.path.is_empty()) {
        let name = &module.path[0];
        let Some(own) = floor(name) else {
            found.push(format!("{}: `{name}` is not in the list of floors", module.source.name()));
            continue;
        };
        for (line, path) in &module.references {
            let targets = [path.clone(), tree.resolve(path)];
            // Items of the root itself have no floor.
            let targets: BTreeSet<_> = targets.iter().filter_map(|path| path.first()).collect();
            for target in targets.into_iter().filter(|target| tree.modules.contains_key(&vec![(*target).clone()])) {
                if target != name && floor(target).is_none_or(|floor| floor < own) {
                    found.push(format!("{}:{line}: `{name}` uses `{target}`", module.source.name()));
                }
            }
        }
    }
    found
}

/// Known uses that close a cycle within a folder. The list may only become shorter.
const CLOSE_CYCLES: [(&str, &str); 23] = [
    // Formats of kernel files use types of `image`, and `image` tries each format.
    ("boot::image", "bzimage"),
    ("boot::image", "elf"),
    ("boot::image", "multiboot"),
    ("boot::image", "linux"),
    ("hyperv::trace", "hypercall"),
    ("hyperv::partition", "vp"),
    ("hyperv::features::switches", "offer"),
    ("hyperv::hypercall::handlers", "registry"),
    // The methods of a VP are in two files.
    ("kvm::vp_state", "vp"),
    ("machine::error", "end"),
    ("machine::events", "end"),
    // The steps of the stack are in files of their own.
    ("net::user::inbound", "stack"),
    ("net::user::room", "stack"),
    ("net::user::table", "stack"),
    ("vmbus::bus::channel", "link"),
    ("vmbus::bus::port", "link"),
    ("vmbus::connection::gpadls", "channel"),
    // The commands of a unit are in files of their own.
    ("vsp::storage::scsi::unit", "blocks"),
    ("vsp::storage::scsi::unit", "mode"),
    ("vsp::storage::scsi::unit", "optical"),
    ("vsp::storage::scsi::unit", "provisioning"),
    ("vsp::storage::scsi::unit", "reservation"),
    ("vsp::storage::scsi::unit", "table"),
];

/// The uses between the modules of one folder, by folder: the two modules, and a line.
type Steps = BTreeMap<ModulePath, BTreeMap<String, BTreeMap<String, String>>>;

/// Returns the uses between modules of the same folder.
///
/// A folder's own `mod.rs` is ignored: it uses its children, and they use its items.
fn steps_within_folders(tree: &Tree) -> Steps {
    let mut steps = Steps::new();
    for module in tree.production() {
        for (line, path) in &module.references {
            let target = tree.resolve(path);
            let common = module.path.iter().zip(&target).take_while(|(own, other)| own == other).count();
            if let (Some(own), Some(other)) = (module.path.get(common), target.get(common)) {
                let of_folder = steps.entry(module.path[..common].to_vec()).or_default();
                let of_module = of_folder.entry(own.clone()).or_default();
                of_module.entry(other.clone()).or_insert_with(|| format!("{}:{line}", module.source.name()));
            }
        }
    }
    steps
}

/// Removes the uses in `known`, each a `folder::module` and another module of the folder. Returns those that do not exist.
fn take_away<'a>(steps: &mut Steps, known: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut unknown = Vec::new();
    for (from, to) in known {
        let mut folder: ModulePath = from.split("::").map(str::to_owned).collect();
        let module = folder.pop().unwrap_or_default();
        let of_module = steps.get_mut(&folder).and_then(|of_folder| of_folder.get_mut(&module));
        if of_module.and_then(|of_module| of_module.remove(*to)).is_none() {
            unknown.push((*from, *to));
        }
    }
    unknown
}

/// Returns the cycles between modules of one folder, with a line for each use.
fn cycles(steps: &Steps) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, of_folder) in steps {
        let mut told = BTreeSet::new();
        for start in of_folder.keys() {
            if let Some(cycle) = cycle_through(of_folder, start)
                && told.insert(cycle.iter().copied().collect::<BTreeSet<_>>())
            {
                let step = |at: usize| {
                    let (from, to) = (cycle[at], cycle[(at + 1) % cycle.len()]);
                    format!("{from} uses {to} ({})", of_folder[from][to])
                };
                let steps = (0..cycle.len()).map(step).collect::<Vec<_>>().join(", ");
                found.push(format!("in {}: {steps}", folder.join("::")));
            }
        }
    }
    found
}

/// Returns a shortest cycle through `start`.
fn cycle_through<'a>(
    steps: &'a BTreeMap<String, BTreeMap<String, String>>,
    start: &'a String,
) -> Option<Vec<&'a String>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![start]];
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in steps.get(way[way.len() - 1]).into_iter().flat_map(|steps| steps.keys()) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push([way.clone(), vec![next]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn a_module_uses_its_own_floor_and_those_below() {
    let found = steps_up(&crate::TREE);
    assert!(found.is_empty(), "a lower floor uses a higher one:\n{}", found.join("\n"));
}

#[test]
fn no_two_modules_of_a_folder_use_each_other() {
    let mut steps = steps_within_folders(&crate::TREE);
    let gone = take_away(&mut steps, &CLOSE_CYCLES);
    assert!(gone.is_empty(), "these uses no longer exist; remove them from CLOSE_CYCLES: {gone:?}");
    let found = cycles(&steps);
    assert!(found.is_empty(), "cycles between modules:\n{}", found.join("\n"));
}

#[test]
fn a_use_of_a_higher_floor_is_found() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod vmbus; mod vsp; mod attic;"),
        ("src/vmbus.rs", "use crate::vsp::Disk;\n#[cfg(test)] mod tests { use crate::vsp; }"),
        ("src/vsp.rs", "use crate::vmbus::Channel; use crate::Root; // crate::machine"),
        ("src/attic.rs", ""),
    ]);
    let expected = ["src/attic.rs: `attic` is not in the list of floors", "src/vmbus.rs:1: `vmbus` uses `vsp`"];
    assert_eq!(steps_up(&tree), expected);
}

#[test]
fn a_use_of_a_higher_floor_through_a_re_export_is_found() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod kvm; mod memory; mod wire;"),
        ("src/kvm.rs", "pub use crate::memory::Pages;"),
        ("src/memory.rs", "pub fn f() -> crate::wire::Size { super::kvm::Pages }"),
        ("src/wire.rs", ""),
    ]);
    assert_eq!(steps_up(&tree), ["src/memory.rs:1: `memory` uses `kvm`"]);
}

#[test]
fn cycles_are_found_at_every_depth() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a/mod.rs", "mod x; mod y; mod z; pub use z::Z;"),
        ("src/a/x.rs", "use super::y::Y;\nuse crate::b;"),
        ("src/a/y.rs", "\nuse super::Z;"),
        ("src/a/z.rs", "fn f() { crate::a::x::g() }"),
        ("src/b.rs", "#[cfg(test)]\nuse crate::a;"),
    ]);
    let mut steps = steps_within_folders(&tree);
    let cycle = "in a: x uses y (src/a/x.rs:1), y uses z (src/a/y.rs:2), z uses x (src/a/z.rs:1)";
    assert_eq!(cycles(&steps), [cycle]);
    assert_eq!(take_away(&mut steps, &[("a::y", "z"), ("a::z", "y")]), [("a::z", "y")]);
    assert_eq!(cycles(&steps), Vec::<String>::new());
}
