//! A machine's disks: those that it starts with, and those that come and go while it runs.
//!
//! ```no_run
//! # use viridian::machine::builder::Builder;
//! # use viridian::vsp::storage::config::DiskConfig;
//! let machine = Builder::new().kernel("vmlinuz").disk(DiskConfig::of("root.img")).start()?;
//! let place = machine.disks().attach(&DiskConfig::of("memory:1G"))?;
//! // ... the guest finds it, uses it, and lets go of it
//! machine.disks().detach(place);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::config::{self, ConfigError, DiskConfig};
use super::controller::{Controller, MAX_LUNS};
use super::provider::StorageVsp;
use crate::block::DiskError;
use crate::vmbus::bus::VmBus;
use crate::vmbus::connection::OfferError;
use crate::vmbus::trace::Tracer;

/// Where a disk hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The controller, from 0.
    pub controller: u8,
    /// The disk's number on it.
    pub lun: u8,
}

impl AttachError {
    /// Returns `true` if it is the host that fails, and not what the user says or has.
    pub fn is_hosts(&self) -> bool {
        matches!(
            self,
            Self::Offer(_) | Self::Disk(ConfigError::Host { .. } | ConfigError::Disk(DiskError::Host { .. }))
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "controller={},lun={}", self.controller, self.lun)
    }
}

/// Why a disk cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// What is wrong with the disk.
    #[error(transparent)]
    Disk(#[from] ConfigError),
    /// Another disk is there.
    #[error("{0} is taken; give the disk another lun=, or another controller=")]
    Taken(Place),
    /// Its controller cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

/// See the module's description. Any thread may use it.
pub struct Disks {
    bus: VmBus,
    max_subchannels: u16,
    tracer: Option<Tracer>,
    /// By their numbers. A controller stays when its last disk goes.
    controllers: Mutex<BTreeMap<u8, Arc<Controller>>>,
    /// Whether a thread looks at the sizes.
    checking: Arc<AtomicBool>,
}

impl Disks {
    /// No disks yet. Their controllers will be offered on `bus`, each with up to `max_subchannels` beside its primary
    /// channel, and their packets printed by the tracer.
    pub fn new(bus: VmBus, max_subchannels: u16, tracer: Option<Tracer>) -> Self {
        Self { bus, max_subchannels, tracer, controllers: Mutex::default(), checking: Arc::default() }
    }

    /// Attaches all of a configuration's disks: those that name a LUN have it, the others the lowest that are free.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn attach_all(&self, disks: &[DiskConfig]) -> Result<(), AttachError> {
        let mut controllers = self.lock();
        for (number, controller) in config::controllers(disks, self.max_subchannels)? {
            self.offer(&controller, number)?;
            controllers.insert(number, controller);
        }
        Ok(())
    }

    /// Attaches one disk more. A guest that runs is told to look.
    ///
    /// # Errors
    /// What is wrong with it, or its place.
    pub fn attach(&self, disk: &DiskConfig) -> Result<Place, AttachError> {
        let mut controllers = self.lock();
        let number = disk.controller;
        let known = controllers.get(&number).cloned();
        let controller = known.clone().unwrap_or_else(|| Controller::new(self.max_subchannels));
        let lowest = || (0..MAX_LUNS as u8).find(|lun| controller.unit(*lun).is_none());
        let lun = disk.lun.or_else(lowest).ok_or_else(|| ConfigError::Full(number, disk.path.clone()))?;
        let place = Place { controller: number, lun };
        if controller.unit(lun).is_some() {
            return Err(AttachError::Taken(place));
        }
        controller.attach(lun, disk.unit(lun)?).map_err(|_| AttachError::Taken(place))?;
        if known.is_none() {
            self.offer(&controller, number)?;
            controllers.insert(number, controller);
        }
        Ok(place)
    }

    /// Takes a disk away, whatever the guest is doing with it. Returns `false` if there is none.
    ///
    /// Its long commands are cancelled, its short ones finish, and then its image is closed. A guest that runs is told to look.
    pub fn detach(&self, place: Place) -> bool {
        self.controller(place.controller).and_then(|controller| controller.detach(place.lun)).is_some()
    }

    /// Looks whether disks have other sizes than before. A guest that runs is told to look at those that have.
    pub fn check_sizes(&self) {
        let controllers: Vec<_> = self.lock().values().cloned().collect();
        controllers.iter().for_each(|controller| controller.check_sizes());
    }

    /// The same on a thread of its own, unless one is still at it: a host that does not answer holds up nobody.
    pub fn check_sizes_aside(&self) {
        struct Done(Arc<AtomicBool>);
        impl Drop for Done {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        if self.checking.swap(true, Ordering::Acquire) {
            return;
        }
        let done = Done(self.checking.clone());
        let controllers: Vec<_> = self.lock().values().map(Arc::downgrade).collect();
        let check = move || {
            let _done = done;
            controllers.iter().filter_map(Weak::upgrade).for_each(|controller| controller.check_sizes());
        };
        if let Err(error) = std::thread::Builder::new().name("disk-sizes".into()).spawn(check) {
            log::debug!("the sizes of disks are not looked at: {error}");
        }
    }

    /// Returns `true` if there has never been a disk.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns a controller that has, or had, disks.
    pub fn controller(&self, number: u8) -> Option<Arc<Controller>> {
        self.lock().get(&number).cloned()
    }

    fn offer(&self, controller: &Arc<Controller>, number: u8) -> Result<(), OfferError> {
        let device = StorageVsp::numbered(controller.clone(), number).traced(self.tracer.clone());
        self.bus.offer(Box::new(device)).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u8, Arc<Controller>>> {
        self.controllers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
