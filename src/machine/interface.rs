//! What each engine offers a guest on this host: the report behind `viridian hv`.

use serde::Serialize;

use super::check;
use crate::config::hyperv::Hv;
use crate::engine;
use crate::hyperv::cpuid::{self, Identity, Version};
pub use crate::hyperv::features::EngineKind;
use crate::hyperv::features::{Feature, Offer, Switches, Verdict};
use crate::hyperv::hypercall::{CallCode, Hypercalls};
use crate::hyperv::msr::Msr;
use crate::kvm::host::Host;

const ENGINES: [EngineKind; 2] = [EngineKind::User, EngineKind::Kernel];

/// The Hyper-V interface, engine by engine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    /// The engines, and why one cannot run.
    pub engines: Vec<EngineReport>,
    /// Privileges, features and hints.
    pub features: Vec<Item>,
    /// Synthetic MSRs.
    pub msrs: Vec<Item>,
    /// Hypercalls.
    pub hypercalls: Vec<Item>,
}

/// One engine on this host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EngineReport {
    /// Which.
    pub engine: EngineKind,
    /// Why it cannot run here, if it cannot.
    pub unavailable: Option<String>,
    /// The CPUID leaves that it shows.
    pub leaves: Vec<LeafReport>,
}

/// One CPUID leaf.
#[derive(Debug, Serialize)]
pub struct LeafReport {
    /// The value of EAX that asks for it.
    pub function: u32,
    /// What it is called.
    pub name: &'static str,
    /// EAX, EBX, ECX and EDX.
    pub registers: [u32; 4],
}

/// One thing that a guest may be offered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Item {
    /// Its TLFS name.
    pub name: String,
    /// Where it is: leaf, register and bit, an MSR's number or a call's code.
    pub place: String,
    /// On the user engine.
    pub user: Offered,
    /// On the kernel engine.
    pub kernel: Offered,
}

/// Whether an engine offers something.
#[derive(Debug, Serialize)]
pub struct Offered {
    /// Whether it does.
    pub offered: bool,
    /// Why, or why not; or who answers.
    pub why: String,
}

/// What each engine offers, or that it cannot run.
struct Offers {
    user: Result<Offer, String>,
    kernel: Result<Offer, String>,
}

impl Offers {
    fn ask(&self, question: impl Fn(EngineKind, &Offer) -> Offered) -> (Offered, Offered) {
        let ask = |engine, offer: &Result<Offer, String>| match offer {
            Ok(offer) => question(engine, offer),
            Err(reason) => Offered { offered: false, why: reason.clone() },
        };
        (ask(EngineKind::User, &self.user), ask(EngineKind::Kernel, &self.kernel))
    }
}

impl Interface {
    /// Asks the host, for a guest with these settings.
    pub fn new(hv: Hv, version: Version) -> Self {
        let switches = match hv {
            Hv::On(switches) => switches,
            Hv::Off => Switches::default(),
        };
        let host = Host::open_unchecked().map_err(|error| error.to_string());
        let offer = |kind| {
            let host = host.as_ref().map_err(Clone::clone)?;
            let lacking = check::lacking(kind, host);
            if !lacking.is_empty() {
                return Err(format!("this host's KVM lacks {}", lacking.join(", ")));
            }
            engine::offer(kind, host, &switches).map_err(|error| error.to_string())
        };
        let found = ENGINES.map(offer);
        let engines =
            ENGINES.into_iter().zip(&found).map(|(engine, offer)| engine_report(engine, offer, version)).collect();
        let [user, kernel] = found.map(|offer| offer.map(|(offer, _)| offer));
        let offers = Offers { user, kernel };
        Self { engines, features: features(&offers), msrs: msrs(&offers), hypercalls: hypercalls(&offers) }
    }
}

fn engine_report(engine: EngineKind, offer: &Result<(Offer, u32), String>, version: Version) -> EngineReport {
    match offer {
        Err(reason) => EngineReport { engine, unavailable: Some(reason.clone()), leaves: Vec::new() },
        Ok((offer, spinlock_retries)) => {
            let identity = Identity { version, spinlock_retries: *spinlock_retries, ..Identity::default() };
            let leaves = cpuid::leaves(offer.features(), &identity).into_iter().map(|leaf| LeafReport {
                function: leaf.function,
                name: cpuid::leaf_name(leaf.function),
                registers: [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx],
            });
            EngineReport { engine, unavailable: None, leaves: leaves.collect() }
        }
    }
}

fn offered(verdict: Verdict) -> Offered {
    Offered { offered: verdict.is_offered(), why: verdict.to_string() }
}

fn features(offers: &Offers) -> Vec<Item> {
    let item = |feature: &Feature| {
        let (leaf, register) = feature.word().place();
        let (user, kernel) = offers.ask(|_, offer| offered(offer.verdict(*feature)));
        Item { name: feature.name().into(), place: format!("{leaf:#x} {register} bit {}", feature.bit()), user, kernel }
    };
    Feature::ALL.iter().map(item).collect()
}

/// What hangs on one privilege.
fn with_privilege(offer: &Offer, privilege: Feature, answer: &str) -> Offered {
    match offer.verdict(privilege) {
        Verdict::Offered => Offered { offered: true, why: answer.into() },
        _ => Offered { offered: false, why: format!("it needs {}", privilege.name()) },
    }
}

fn msrs(offers: &Offers) -> Vec<Item> {
    let item = |(number, msr): (u32, Msr)| {
        let (user, kernel) = offers.ask(|engine, offer| {
            let answer = if engine.keeps(msr) { "kept by Viridian" } else { "kept by KVM" };
            with_privilege(offer, msr.requires(), answer)
        });
        Item { name: msr.to_string(), place: format!("{number:#x}"), user, kernel }
    };
    Msr::all().map(item).collect()
}

fn hypercalls(offers: &Offers) -> Vec<Item> {
    let calls = Hypercalls::standard();
    let item = |definition: &crate::hyperv::hypercall::Definition| {
        let (user, kernel) = offers.ask(|engine, offer| {
            let answer = match (engine, definition.code) {
                (_, CallCode::SIGNAL_EVENT) => "a doorbell inside KVM; else answered by Viridian",
                (EngineKind::Kernel, code) if CallCode::ANSWERED_BY_KVM.contains(&code) => "answered by KVM",
                _ => "answered by Viridian",
            };
            match definition.requires {
                Some(privilege) => with_privilege(offer, privilege, answer),
                None => with_privilege(offer, Feature::AccessHypercallMsrs, answer),
            }
        });
        Item { name: definition.name.clone().into_owned(), place: format!("{:#06x}", definition.code.0), user, kernel }
    };
    calls.definitions().map(item).collect()
}
