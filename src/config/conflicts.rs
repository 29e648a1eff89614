//! Settings that exclude each other: one has no effect beside the other, or one is a file that the other overwrites. A user who
//! gives both has a mistake in one of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Config, ConsoleConfig, Engine, Hv, HypervisorVersion, KernelSource, TraceFormat, VmBusVersion};
use crate::net::attachment::Attachment;
use crate::vsp::services::config::ServiceOptions;

/// Two settings that exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Conflict(#[from] Kind);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Kind {
    #[error("{ignored} has no effect {cause}: {reason}; leave one of them out")]
    NoEffect { ignored: String, cause: String, reason: &'static str },
    #[error("{output} would overwrite {}, which is also the file of {other}; name another file", path.display())]
    Overwritten { output: &'static str, other: &'static str, path: PathBuf },
}

impl Config {
    /// Checks that no setting is without effect because of another one, and that no output overwrites another file of the machine.
    pub(crate) fn check_conflicts(&self) -> Result<(), Conflict> {
        self.check_effects()?;
        Ok(self.check_outputs()?)
    }

    fn check_outputs(&self) -> Result<(), Kind> {
        let outputs = self.outputs();
        for (number, (output, path)) in outputs.iter().enumerate() {
            let others = self.inputs().into_iter().chain(outputs[..number].iter().copied());
            if let Some((other, _)) = others.into_iter().find(|(_, other)| is_same_file(path, other)) {
                return Err(Kind::Overwritten { output, other, path: path.to_path_buf() });
            }
        }
        Ok(())
    }

    /// Returns the option whose file would be overwritten by this output, if there is one. It may wait for the host to find the
    /// machine's files.
    #[doc(hidden)]
    pub fn option_with_file(&self, path: &Path) -> Option<&'static str> {
        let found = std::fs::metadata(path).ok();
        if found.as_ref().is_some_and(|file| !file.is_file()) {
            return None;
        }
        // A file that is empty or not there loses nothing, unless two outputs share it: then the host's files are not looked at.
        let has_content = found.is_some_and(|file| file.len() > 0);
        let is_same = |other: &Path| path == other || has_content && is_same_file(path, other);
        let all = self.inputs().into_iter().chain(self.outputs());
        all.into_iter().find_map(|(option, other)| is_same(other).then_some(option))
    }

    /// Returns the files that the machine reads, with their options. A path that names no file is one as well.
    fn inputs(&self) -> Vec<(&'static str, &Path)> {
        let kernel = match &self.kernel {
            Some(KernelSource::File(path) | KernelSource::Flat { path, .. }) => Some(path),
            _ => None,
        };
        let boot = [("--kernel", kernel), ("--initrd", self.initrd.as_ref()), ("--symbols", self.symbols.as_ref())];
        let boot = boot.into_iter().filter_map(|(option, path)| Some((option, path?.as_path())));
        boot.chain(self.disks.iter().map(|disk| ("--disk", disk.path.as_path()))).collect()
    }

    /// Returns the files that the machine creates or truncates, with their options.
    fn outputs(&self) -> Vec<(&'static str, &Path)> {
        let console = match &self.console {
            ConsoleConfig::File(path) => Some(path),
            _ => None,
        };
        let trace = self.trace.as_ref().and_then(|trace| trace.file.as_ref());
        let files =
            [("--console", console), ("--trace", trace), ("--screenshot-at-end", self.screenshot_at_end.as_ref())];
        let files = files.into_iter().filter_map(|(option, path)| Some((option, path?.as_path())));
        let captures = self.networks.iter().filter_map(|network| network.pcap.as_deref());
        files.chain(captures.map(|path| ("--net pcap=", path))).collect()
    }

    /// Checks that no setting is without effect because of another one.
    fn check_effects(&self) -> Result<(), Kind> {
        let conflict = |ignored: &str, cause: &str, reason| Kind::NoEffect {
            ignored: ignored.into(),
            cause: cause.into(),
            reason,
        };
        if self.hv == Hv::Off
            && let Some((ignored, reason)) = self.without_hyper_v()
        {
            return Err(conflict(ignored, "with --hv off", reason));
        }
        if let (TraceFormat::Json, None) = (self.trace_format, &self.trace) {
            return Err(Kind::NoEffect {
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

/// Returns `true` if both paths name the same regular file, whether or not it exists. Devices, such as `/dev/null`, may be used
/// several times.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let found = |path: &Path| std::fs::metadata(path).ok();
    match (found(one), found(other)) {
        (Some(one), Some(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (None, None) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    #[test]
    fn an_output_that_would_overwrite_another_file_of_the_machine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "content").unwrap();
        std::os::unix::fs::symlink("file", folder.path().join("link")).unwrap();
        let place = folder.path().display();
        for (settings, words) in [
            (format!("kernel = '{place}/file'\nconsole = 'file:{place}/link'"), ["--console would", "of --kernel"]),
            (format!("disk = '{place}/link'\ntrace = 'all={place}/file'"), ["--trace would", "of --disk"]),
            (format!("initrd = '{place}/file'\nnet = 'user,pcap={place}/file'"), ["--net pcap=", "of --initrd"]),
            (format!("console = 'file:{place}/new'\ntrace = 'all={place}/new'"), ["--trace would", "of --console"]),
        ] {
            let error = load(&settings).check_conflicts().unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{settings}: {error}");
        }
        let several = format!("kernel = '{place}/file'\nconsole = 'file:/dev/null'\ntrace = 'all=/dev/null'");
        let config = load(&several);
        assert_eq!(config.check_conflicts(), Ok(()));
        assert_eq!(config.option_with_file(&folder.path().join("link")), Some("--kernel"));
        assert_eq!(config.option_with_file(&folder.path().join("new")), None);
    }

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
