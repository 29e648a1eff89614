//! Settings that have no effect beside others. A user who gives both has a mistake in one of them.

use super::{Config, Engine, Hv, HypervisorVersion, TraceFormat, VmBusVersion};
use crate::net::attachment::Attachment;
use crate::vsp::services::config::ServiceOptions;

/// Two settings of which one has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ignored} has no effect {cause}: {reason}; leave one of them out")]
pub struct Conflict {
    ignored: String,
    cause: String,
    reason: &'static str,
}

impl Config {
    /// Checks that no setting is without effect because of another one.
    pub(crate) fn check_conflicts(&self) -> Result<(), Conflict> {
        let conflict =
            |ignored: &str, cause: &str, reason| Conflict { ignored: ignored.into(), cause: cause.into(), reason };
        if self.hv == Hv::Off
            && let Some((ignored, reason)) = self.without_hyper_v()
        {
            return Err(conflict(ignored, "with --hv off", reason));
        }
        if let (TraceFormat::Json, None) = (self.trace_format, &self.trace) {
            return Err(Conflict {
                ignored: "--trace-format json".into(),
                cause: "without --trace".into(),
                reason: "it is the format of trace lines; give --trace KIND, too",
            });
        }
        if self.vsock.is_some() && self.vmbus_max_version < VmBusVersion::V4_0 {
            let cause = format!("with --vmbus-max-version {}", self.vmbus_max_version);
            return Err(conflict("--vsock", &cause, "sockets need VMBus 4.0"));
        }
        Ok(())
    }

    /// Returns the first setting that has no effect without Hyper-V, and why.
    fn without_hyper_v(&self) -> Option<(&'static str, &'static str)> {
        const BUS: &str = "the guest finds no VMBus, where the device would be";
        let is_connected = self.networks.iter().any(|network| network.attachment != Attachment::None);
        let has_services = self.services != ServiceOptions::default() && self.services != ServiceOptions::NONE;
        let has_screen = self.display.size().is_some() || self.display.has_input();
        let changes = self.memory.limits().is_ok_and(|limits| limits.is_some());
        let settings = [
            (!self.disks.is_empty(), "--disk", BUS),
            (is_connected, "--net", BUS),
            (self.vsock.is_some(), "--vsock", BUS),
            (has_screen, "--display", BUS),
            (has_services, "--services", BUS),
            (changes, "--memory max=", "the guest finds no VMBus, on which it would be told of new sizes"),
            (self.engine != Engine::Auto, "--engine", "no engine runs"),
            (self.hv_version != HypervisorVersion::default(), "--hv-version", "the guest finds no Hyper-V"),
            (self.vmbus_max_version != VmBusVersion::NEWEST, "--vmbus-max-version", "the guest finds no VMBus"),
        ];
        settings.into_iter().find_map(|(is_given, name, reason)| is_given.then_some((name, reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    fn load(settings: &str) -> Config {
        toml::from_str(settings).unwrap()
    }

    #[test]
    fn settings_without_an_effect_are_refused_with_both_names() {
        for (settings, words) in [
            ("hv = 'off'\ndisk = 'memory:1M'", ["--disk", "--hv off"]),
            ("hv = 'off'\nnet = 'user'", ["--net", "--hv off"]),
            ("hv = 'off'\nvsock = '/s'", ["--vsock", "--hv off"]),
            ("hv = 'off'\ndisplay = 'on'", ["--display", "--hv off"]),
            ("hv = 'off'\ndisplay = 'none,input=on'", ["--display", "--hv off"]),
            ("hv = 'off'\nservices = 'time=off'", ["--services", "--hv off"]),
            ("hv = 'off'\nmemory = '1G,max=2G'", ["--memory max=", "--hv off"]),
            ("hv = 'off'\nengine = 'user'", ["--engine", "--hv off"]),
            ("hv = 'off'\nhv-version = '10.0.14393'", ["--hv-version", "--hv off"]),
            ("hv = 'off'\nvmbus-max-version = '4.0'", ["--vmbus-max-version", "--hv off"]),
            ("trace-format = 'json'", ["--trace-format json", "--trace KIND"]),
            ("vsock = '/s'\nvmbus-max-version = '3.0'", ["--vsock", "--vmbus-max-version 3.0"]),
        ] {
            let error = load(settings).check_conflicts().unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{settings}: {error}");
        }
    }

    #[test]
    fn settings_that_agree_are_accepted() {
        for settings in [
            "",
            "hv = 'off'",
            "hv = 'off'\nnet = 'none'\ndisplay = 'none'\nservices = 'off'\nmemory = '1G'\nengine = 'auto'",
            "trace = 'msr'\ntrace-format = 'json'",
            "vsock = '/s'\nvmbus-max-version = '4.0'",
            "hv = '-PostMessages'\ndisk = 'memory:1M'",
        ] {
            assert_eq!(load(settings).check_conflicts(), Ok(()), "{settings}");
        }
        assert_eq!(text::parse::<ServiceOptions>("off").unwrap(), ServiceOptions::NONE);
    }
}
