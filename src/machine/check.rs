//! The report of `viridian check` about this host, and the choice of an engine.

use serde::Serialize;

use super::MachineError;
use crate::config::Engine;
use crate::hyperv::features::EngineKind;
pub use crate::kvm::host::Need;
use crate::kvm::host::{CAPABILITIES, Capability, Host};

/// Both engines, the preferred one first.
const PREFERENCE: [EngineKind; 2] = [EngineKind::Kernel, EngineKind::User];

/// The names of the capabilities that KVM lacks for an engine.
pub(crate) fn lacking(engine: EngineKind, host: &Host) -> Vec<&'static str> {
    let need = match engine {
        EngineKind::Kernel => Need::KernelEngine,
        EngineKind::User => Need::UserEngine,
    };
    host.lacks(need).map(|capability| capability.name).collect()
}

/// Selects the engine.
///
/// # Errors
/// Returns an error if the host cannot run the requested engine, or none at all.
pub(crate) fn choose(host: &Host, wanted: Engine) -> Result<EngineKind, MachineError> {
    let candidates: &[EngineKind] = match wanted {
        Engine::Auto => &PREFERENCE,
        Engine::Kernel => &[EngineKind::Kernel],
        Engine::User => &[EngineKind::User],
    };
    let mut refusals = Vec::new();
    for engine in candidates {
        match lacking(*engine, host) {
            names if names.is_empty() => return Ok(*engine),
            names => refusals.push(format!("the {engine} engine wants {}", names.join(", "))),
        }
    }
    let remedy = match wanted {
        Engine::Kernel => "use --engine auto, or a host kernel with CONFIG_KVM_HYPERV",
        _ => "use a host with Linux 5.10 or later",
    };
    Err(MachineError::NoEngine { refusals: refusals.join("; "), remedy })
}

/// A report about this host's KVM.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Version of the host's kernel.
    pub kernel: String,
    /// `true` if a machine can run here.
    pub usable: bool,
    /// The engine that `--engine auto` selects.
    pub engine: Option<EngineKind>,
    /// The reason for the choice of the engine, or the problem and its remedy.
    pub reason: String,
    /// Maximum number of VPs in one machine.
    pub max_vps: Option<usize>,
    /// The capabilities that Viridian checks.
    pub capabilities: Vec<Finding>,
}

/// The result for one capability.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The name in the kernel's headers.
    pub name: &'static str,
    /// The purpose.
    pub purpose: &'static str,
    /// The part of Viridian that needs it.
    pub need: Need,
    /// `true` if KVM has it.
    pub present: bool,
}

impl Report {
    /// Checks the host.
    pub fn new() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let empty =
            Self { kernel, usable: false, engine: None, reason: String::new(), max_vps: None, capabilities: vec![] };
        let host = match Host::open_unchecked() {
            Ok(host) => host,
            Err(error) => return Self { reason: error.to_string(), ..empty },
        };
        let finding = |wanted: &'static Capability| Finding {
            name: wanted.name,
            purpose: wanted.purpose,
            need: wanted.need,
            present: host.has(wanted),
        };
        let found =
            Self { max_vps: Some(host.max_vps()), capabilities: CAPABILITIES.iter().map(finding).collect(), ..empty };
        let outcome = Host::open().map_err(MachineError::from).and_then(|host| choose(&host, Engine::Auto));
        match outcome {
            Ok(engine) => Self { usable: true, engine: Some(engine), reason: why(&host, engine), ..found },
            Err(error) => Self { reason: error.to_string(), ..found },
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

fn why(host: &Host, engine: EngineKind) -> String {
    match engine {
        EngineKind::Kernel => "KVM emulates Hyper-V here, and completely".into(),
        EngineKind::User => format!("KVM here lacks {}", lacking(EngineKind::Kernel, host).join(", ")),
    }
}
