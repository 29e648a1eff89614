#![allow(clippy::single_range_in_vec_init)]
use super::*;
use crate::config::text::parse;

fn limits(text: &str) -> Result<Option<(u64, u64, u64)>, String> {
    let memory: Memory = parse(text).map_err(|error| error.to_string())?;
    let limits = memory.limits().map_err(|error| error.to_string())?;
    Ok(limits.map(|limits| (limits.startup >> 8, limits.min >> 8, limits.max >> 8)))
}

#[test]
fn a_single_size_is_a_fixed_size() {
    assert_eq!(limits("1G"), Ok(None));
    assert_eq!(limits("startup=1G"), Ok(None));
    assert_eq!(limits("1G,hugepages=on"), Ok(None));
}

#[test]
fn a_minimum_or_a_maximum_makes_the_size_change() {
    assert_eq!(limits("startup=1G,min=512M,max=4G"), Ok(Some((1024, 512, 4096))));
    assert_eq!(limits("1G,max=4G"), Ok(Some((1024, 1024, 4096))));
    assert_eq!(limits("1G,min=512M"), Ok(Some((1024, 512, 1024))));
    assert_eq!(limits("1G,cold-discard=on"), Ok(Some((1024, 1024, 1024))), "the guest's driver reports free pages");
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    for (text, part) in [
        ("1G,min=2G", "min=2G, startup=1G, max=1G"),
        ("1G,max=512M", "min=1G, startup=1G, max=512M"),
        ("1G,min=1000000001", "not a multiple of 4096"),
        ("4096K,min=4096", "less than the 1M"),
        ("1G,max=17T", "more than the 16T"),
        ("1G,max=2G,hugepages=on", "leave out hugepages"),
        ("1G,hugepages=on,cold-discard=on", "leave out hugepages"),
        ("1G,startup=2G", "given twice"),
    ] {
        let error = limits(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn cold_discard_follows_the_size_unless_it_is_set() {
    let discards = |text| parse::<Memory>(text).unwrap().discards();
    let found = ["1G", "1G,max=2G", "1G,cold-discard=on", "1G,max=2G,cold-discard=off"].map(discards);
    assert_eq!(found, [false, true, true, false]);
}

#[test]
fn the_window_for_hot_added_memory_is_above_everything_else() {
    let window =
        |startup: u64, max: u64| Layout::of(&Limits { startup: startup << 8, min: startup << 8, max: max << 8 }).window;
    assert_eq!(window(256, 640), 1 << 20..(1 << 20) + (384 << 8));
    assert_eq!(window(3072, 4096), 1 << 20..(1 << 20) + (1024 << 8));
    assert_eq!(window(4096, 5120), 3 << 19..(3 << 19) + (1024 << 8), "above 5 GiB, at a multiple of 2 GiB");
    assert!(window(1024, 1024).is_empty());
}
