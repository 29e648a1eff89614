//! `--hv +name,-name`: the user's changes to what a guest is offered.

use std::fmt;
use std::str::FromStr;

use super::{EngineKind, Feature, Features, Support};

/// Features that the user switched on and off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    on: Features,
    off: Features,
}

/// Why a list of switches is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// The item does not begin with a sign.
    #[error("'{0}' switches nothing: write +{0} to offer it or -{0} to hide it")]
    NoSign(String),
    /// There is no feature of this name.
    #[error("there is no privilege or hint named '{name}'; {}", nearest.map_or_else(
        || "`viridian hv` lists them".to_owned(),
        |nearest| format!("did you mean {}?", nearest.name())
    ))]
    Unknown {
        /// The name as written.
        name: String,
        /// The feature whose name is most like it, if any is.
        nearest: Option<Feature>,
    },
    /// The engine cannot offer what is to be switched on.
    #[error("the {engine} engine cannot offer {}: {reason}", feature.name())]
    CannotOffer {
        /// The engine in use.
        engine: EngineKind,
        /// What was to be switched on.
        feature: Feature,
        /// Why it cannot.
        reason: &'static str,
    },
}

impl Switches {
    /// Returns what is switched on.
    pub const fn on(&self) -> Features {
        self.on
    }

    /// Returns what is switched off.
    pub const fn off(&self) -> Features {
        self.off
    }

    /// Switches one feature; the last word counts.
    pub fn set(&mut self, feature: Feature, on: bool) {
        (self.on, self.off) = if on {
            (self.on.with(feature), self.off.without(feature))
        } else {
            (self.on.without(feature), self.off.with(feature))
        };
    }

    /// Whether `engine` can offer all that is switched on.
    ///
    /// # Errors
    /// The first feature that it cannot offer on any host.
    pub fn check(&self, engine: EngineKind) -> Result<(), SwitchError> {
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
        // A neighbour is a slip of the finger or two away: one letter in four.
        let is_near = |(distance, feature): &(usize, Feature)| *distance <= feature.name().len().min(lower.len()) / 4;
        let neighbours = Feature::ALL.iter().map(|feature| (distance(feature), *feature)).filter(is_near);
        let nearest = neighbours.min_by_key(|(distance, _)| *distance).map(|(_, feature)| feature);
        SwitchError::Unknown { name: name.to_owned(), nearest }
    })
}
