//! The kinds of events that can be traced.

/// A kind of event that can be traced. The module that traces such events declares it, and `config` lists all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceKind(&'static str);

impl TraceKind {
    /// Hypercalls that reach Viridian.
    pub(crate) const HYPERCALL: Self = Self::named("hypercall");
    /// Accesses to synthetic MSRs that reach Viridian.
    pub(crate) const MSR: Self = Self::named("msr");
    /// Messages, event flags and interrupts.
    pub(crate) const SYNIC: Self = Self::named("synic");

    /// Creates a kind. The name is a word of `--trace`.
    pub(crate) const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the name.
    pub(crate) const fn name(self) -> &'static str {
        self.0
    }
}
