//! `--hv +name,-name`: the user's changes to the offered features.

use std::fmt;
use std::str::FromStr;

use super::{EngineKind, Feature, Features, Support};

/// Features that the user switches on and off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    on: Features,
    off: Features,
}

/// An invalid list of switches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// The item has no sign.
    #[error("'{0}' has no sign; write +{0} to offer it or -{0} to hide it")]
    NoSign(String),
    /// There is no feature of this name.
    #[error("there is no privilege or hint named '{name}'; {}", nearest.map_or_else(
        || "`viridian hv` lists them".to_owned(),
        |nearest| format!("did you mean {}?", nearest.name())
    ))]
    Unknown {
        /// The name as written.
        name: String,
        /// The feature with the most similar name, if any is similar.
        nearest: Option<Feature>,
    },
    /// The engine does not support a feature that is switched on.
    #[error("the {engine} engine cannot offer {}: {reason}", feature.name())]
    CannotOffer {
        /// The engine in use.
        engine: EngineKind,
        /// The feature.
        feature: Feature,
        /// The reason why it is not supported.
        reason: &'static str,
    },
}

impl Switches {
    /// Returns the features that are switched on.
    pub(crate) const fn on(&self) -> Features {
        self.on
    }

    /// Returns the features that are switched off.
    pub(crate) const fn off(&self) -> Features {
        self.off
    }

    /// Switches one feature. The last call for a feature counts.
    pub fn set(&mut self, feature: Feature, on: bool) {
        (self.on, self.off) = if on {
            (self.on.with(feature), self.off.without(feature))
        } else {
            (self.on.without(feature), self.off.with(feature))
        };
    }

    /// Checks that `engine` supports everything that is switched on.
    ///
    /// # Errors
    /// Returns the first feature that the engine does not support on any host.
    pub(crate) fn check(&self, engine: EngineKind) -> Result<(), SwitchError> {
        self.on.iter().try_for_each(|feature| match feature.support(engine) {
            Support::Never(reason) => Err(SwitchError::CannotOffer { engine, feature, reason }),
            _ => Ok(()),
        })
    }
}

impl FromStr for Switches {
    type Err = SwitchError;

    fn from_str(list: &str) -> Result<Self, SwitchError> {
        let mut switches = Self::default();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, on) = match (item.strip_prefix('+'), item.strip_prefix('-')) {
                (Some(name), _) => (name, true),
                (_, Some(name)) => (name, false),
                _ => return Err(SwitchError::NoSign(item.to_owned())),
            };
            switches.set(find(name)?, on);
        }
        Ok(switches)
    }
}

impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.on.iter().map(|feature| ('+', feature)).chain(self.off.iter().map(|feature| ('-', feature)));
        items.enumerate().try_for_each(|(index, (sign, feature))| {
            write!(f, "{}{sign}{}", if index == 0 { "" } else { "," }, feature.name())
        })
    }
}

fn find(name: &str) -> Result<Feature, SwitchError> {
    let lower = name.to_ascii_lowercase();
    let exact = Feature::ALL.iter().copied().find(|feature| feature.name().eq_ignore_ascii_case(name));
    exact.ok_or_else(|| {
        let distance = |feature: &Feature| strsim::damerau_levenshtein(&lower, &feature.name().to_ascii_lowercase());
        // A name is similar if at most one letter in four differs.
        let is_near = |(distance, feature): &(usize, Feature)| *distance <= feature.name().len().min(lower.len()) / 4;
        let neighbours = Feature::ALL.iter().map(|feature| (distance(feature), *feature)).filter(is_near);
        let nearest = neighbours.min_by_key(|(distance, _)| *distance).map(|(_, feature)| feature);
        SwitchError::Unknown { name: name.to_owned(), nearest }
    })
}
