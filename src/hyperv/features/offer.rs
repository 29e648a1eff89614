//! Computes which features a guest gets from what its engine supports.

use std::fmt;

use super::{Feature, Features, Support, Switches};

/// The implementation of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Viridian, on plain KVM.
    User,
    /// KVM, with Viridian for what KVM does not implement.
    Kernel,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Kernel => "kernel",
        })
    }
}

/// Whether a feature is offered, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is offered.
    Offered,
    /// Off unless the user switches it on, for this reason.
    OffByDefault(&'static str),
    /// The engine does not support it, for this reason.
    Unsupported(&'static str),
    /// This host's KVM does not have it.
    NotInKvm,
    /// The user switched it off.
    SwitchedOff,
    /// It depends on another feature, which is not offered.
    Needs(Feature),
}

impl Verdict {
    /// Returns `true` if the guest gets it.
    pub const fn is_offered(self) -> bool {
        matches!(self, Self::Offered)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offered => f.write_str("offered"),
            Self::OffByDefault(reason) => write!(f, "off by default: {reason}"),
            Self::Unsupported(reason) => write!(f, "not offered: {reason}"),
            Self::NotInKvm => f.write_str("not offered: this host's KVM does not have it"),
            Self::SwitchedOff => f.write_str("switched off"),
            Self::Needs(other) => write!(f, "not offered: it needs {}", other.name()),
        }
    }
}

/// The features that one guest gets, and the reasons for those that it does not get.
#[derive(Clone, Debug)]
pub struct Offer {
    features: Features,
    verdicts: Vec<Verdict>,
}

impl Offer {
    /// Computes what `engine` offers after the user's switches. `kvm` are the features that the host's KVM supports, for the
    /// kernel engine, or makes [faster](Support::WhereFaster), for the user engine.
    ///
    /// A feature that the engine does not support stays off even if the user switches it on. [`Switches::check`]
    /// reports that.
    pub fn new(engine: EngineKind, kvm: Features, switches: &Switches) -> Self {
        let mut verdicts: Vec<Verdict> =
            Feature::ALL.iter().map(|&feature| verdict(feature, engine, kvm, switches)).collect();
        // A feature is dropped if one that it needs is missing. That can in turn drop others.
        while let Some((index, missing)) = first_unmet_need(&verdicts) {
            verdicts[index] = Verdict::Needs(missing);
        }
        let features = Feature::ALL.iter().zip(&verdicts).filter(|(_, v)| v.is_offered()).map(|(f, _)| *f).collect();
        Self { features, verdicts }
    }

    /// Returns the features that the guest gets.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Returns whether the guest gets `feature`, and why.
    pub fn verdict(&self, feature: Feature) -> Verdict {
        self.verdicts[feature as usize]
    }
}

fn verdict(feature: Feature, engine: EngineKind, kvm: Features, switches: &Switches) -> Verdict {
    let support = feature.support(engine);
    match support {
        Support::Never(reason) => Verdict::Unsupported(reason),
        Support::Kvm if !kvm.has(feature) => Verdict::NotInKvm,
        _ if switches.off().has(feature) => Verdict::SwitchedOff,
        Support::OptIn(reason) if !switches.on().has(feature) => Verdict::OffByDefault(reason),
        Support::WhereFaster(reason) if !kvm.union(switches.on()).has(feature) => Verdict::OffByDefault(reason),
        Support::OptIn(_) | Support::WhereFaster(_) | Support::Kvm | Support::Ours => Verdict::Offered,
    }
}

fn first_unmet_need(verdicts: &[Verdict]) -> Option<(usize, Feature)> {
    verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_offered()).find_map(|(index, _)| {
        let needs = Feature::ALL[index].needs();
        needs.iter().find(|needed| !verdicts[**needed as usize].is_offered()).map(|needed| (index, *needed))
    })
}

impl Feature {
    /// Returns the support of `engine` for the feature.
    pub(crate) const fn support(self, engine: EngineKind) -> Support {
        match engine {
            EngineKind::User => self.on_user_engine(),
            EngineKind::Kernel => self.on_kernel_engine(),
        }
    }
}
