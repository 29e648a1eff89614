use super::*;

const HALTED: Standing = Standing {
    halted: true,
    rip: 0x10_2030,
    symbol: None,
    interrupts_enabled: true,
    pending: None,
    in_service: None,
    task_priority: 0,
    awaits_window: false,
};

#[test]
fn only_the_present_facts_about_a_vp_are_printed() {
    assert_eq!(HALTED.to_string(), "halted at 0x102030 with interrupts on");
}

#[test]
fn everything_that_delays_an_interrupt_of_a_vp_is_printed() {
    let stuck = Standing {
        halted: false,
        interrupts_enabled: false,
        pending: Some(0x31),
        in_service: Some(0xf0),
        task_priority: 0x20,
        awaits_window: true,
        symbol: Some("spin+0x4".into()),
        ..HALTED
    };
    assert_eq!(
        stuck.to_string(),
        "running at 0x102030 (spin+0x4) with interrupts off, vector 0x31 pending, vector 0xf0 in service, task priority 0x20, \
         an AutoEOI interrupt waiting"
    );
}
