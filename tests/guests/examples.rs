//! The programs of `examples/`: each is compiled into this test, and run.

#[path = "../../examples/hot_plug.rs"]
mod hot_plug;
#[path = "../../examples/hypercall.rs"]
mod hypercall;
#[path = "../../examples/kernel_test.rs"]
mod kernel_test;
#[path = "../../examples/vsp.rs"]
mod vsp;

#[test]
fn a_device_answers_its_driver_in_the_guest() {
    vsp::main().unwrap();
}

#[test]
fn a_hypercall_is_answered_and_watched() {
    hypercall::main().unwrap();
}

#[test]
fn a_kernel_is_booted_and_tested_through_its_console() {
    kernel_test::main().unwrap();
}

#[test]
fn disks_and_adapters_come_and_go_while_the_guest_runs() {
    hot_plug::main().unwrap();
}
