//! VMBus, the transport between the parent partition and its children's drivers.
