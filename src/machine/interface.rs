//! The report of `viridian hv`: what each engine offers a guest on this host.

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

/// The Hyper-V interface of each engine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    /// The engines.
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
    /// The kind of engine.
    pub engine: EngineKind,
    /// The reason why the engine cannot run here. `None` if it can.
    pub unavailable: Option<String>,
    /// The CPUID leaves that a guest sees.
    pub leaves: Vec<LeafReport>,
}

/// One CPUID leaf.
#[derive(Debug, Serialize)]
pub struct LeafReport {
    /// The value of EAX for this leaf.
    pub function: u32,
    /// Name of the leaf.
    pub name: &'static str,
    /// The values of EAX, EBX, ECX and EDX.
    pub registers: [u32; 4],
}

/// A feature, MSR or hypercall.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Item {
    /// The name in the TLFS.
    pub name: String,
    /// The location: leaf, register and bit, the number of the MSR, or the code of the call.
    pub place: String,
    /// The offer of the user engine.
    pub user: Offered,
    /// The offer of the kernel engine.
    pub kernel: Offered,
}

/// The offer of one engine.
#[derive(Debug, Serialize)]
pub struct Offered {
    /// `true` if the engine offers the item.
    pub offered: bool,
    /// The reason, or the part that implements the item.
    pub why: String,
}

/// The offers of the engines.
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
    /// Determines what this host offers a guest with these settings.
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

/// Returns the offer of an item that depends on one privilege.
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
