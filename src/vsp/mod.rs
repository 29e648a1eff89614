//! Service providers: the host's side of the synthetic devices.
