//! The settings of the screen.

use serde::{Deserialize, Serialize};

/// The screen of a machine, and its keyboard and mouse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DisplayOptions {
    /// The place where the screen is shown.
    show: Show,
    /// The guest has a keyboard and a mouse.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<bool>,
}

/// A place where a screen is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Show {
    /// There is no screen.
    #[default]
    None,
}

impl DisplayOptions {
    /// Returns `true` if the guest has a keyboard and a mouse.
    pub(crate) fn has_input(&self) -> bool {
        self.input.unwrap_or(match self.show {
            Show::None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    #[test]
    fn keyboard_and_mouse_are_there_when_they_are_asked_for() {
        let has_input = |options: &str| text::parse::<DisplayOptions>(options).unwrap().has_input();
        assert!(!DisplayOptions::default().has_input() && !has_input("none") && !has_input("none,input=off"));
        assert!(has_input("none,input=on"));
        let error = text::parse::<DisplayOptions>("non").unwrap_err().to_string();
        assert_eq!(error, "unknown value `non`; did you mean `none`?");
    }
}
