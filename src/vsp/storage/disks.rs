//! A machine's disks: those that it starts with, and those that are attached and detached while it runs.
//!
//! ```no_run
//! # use viridian::Builder;
//! # use viridian::vsp::storage::DiskConfig;
//! let machine = Builder::new().kernel("vmlinuz").disk(DiskConfig::of("root.img")).start()?;
//! let place = machine.disks().attach(&DiskConfig::of("memory:1G"))?;
//! // ... the guest finds it, uses it, and releases it
//! machine.disks().detach(place);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::config::{self, ConfigError, DiskConfig, OpenDisk};
use super::controller::{Controller, MAX_LUNS};
use super::device::DiskDevice;
use super::place::Place;
use super::provider::StorageVsp;
use super::unit::Unit;
use crate::block::DiskError;
use crate::device::{Devices, Registration};
use crate::host::lock::{Mutex, MutexGuard};
use crate::vmbus::bus::VmBus;
use crate::vmbus::connection::OfferError;
use crate::vmbus::trace::Tracer;

impl AttachDiskError {
    /// Returns `true` if the host failed, and `false` if the settings or the image are wrong.
    pub(crate) fn is_hosts(&self) -> bool {
        matches!(
            self,
            Self::Offer(_) | Self::Disk(ConfigError::Host { .. } | ConfigError::Disk(DiskError::Host { .. }))
        )
    }
}

/// The reason why a disk cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachDiskError {
    /// The settings or the image are wrong.
    #[error(transparent)]
    Disk(#[from] ConfigError),
    /// Another disk has this place.
    #[error("{0} is taken; give the disk another lun=, or another controller=")]
    Taken(Place),
    /// Its controller cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

/// The disks of a machine; see the module's description. Any thread may use it.
pub struct Disks {
    bus: VmBus,
    max_subchannels: u16,
    tracer: Option<Tracer>,
    /// The controllers by number. A controller stays when its last disk is detached.
    controllers: Mutex<BTreeMap<u8, Arc<Controller>>>,
    /// Whether a thread is checking the sizes.
    checking: Arc<AtomicBool>,
    /// The devices of the machine, which the disks join.
    devices: Devices,
    joined: Mutex<BTreeMap<Place, Registration>>,
}

impl Disks {
    /// Creates an empty set. Controllers will be offered on `bus`, each with up to `max_subchannels` beside its primary
    /// channel, `tracer` will trace their packets, and the disks will join `devices`.
    pub(crate) fn new(bus: VmBus, max_subchannels: u16, tracer: Option<Tracer>, devices: Devices) -> Self {
        Self {
            bus,
            max_subchannels,
            tracer,
            controllers: Mutex::default(),
            checking: Arc::default(),
            devices,
            joined: Mutex::default(),
        }
    }

    /// Attaches all configured disks: those that name a LUN get it, the others get the lowest free ones.
    ///
    /// # Errors
    /// Returns the first error.
    pub(crate) fn attach_all(&self, disks: &[DiskConfig]) -> Result<(), AttachDiskError> {
        let mut controllers = self.controllers.lock();
        for (number, controller) in config::controllers(disks, self.max_subchannels)? {
            self.offer(&controller, number)?;
            for (lun, unit) in controller.all() {
                self.join(Place { controller: number, lun }, unit)?;
            }
            controllers.insert(number, controller);
        }
        Ok(())
    }

    /// Attaches another disk. A running guest is notified.
    ///
    /// # Errors
    /// Returns an error if the disk or its place cannot be used.
    pub fn attach(&self, disk: &DiskConfig) -> Result<Place, AttachDiskError> {
        self.free_place(disk)?;
        self.insert(disk.open()?)
    }

    /// Returns the place that a disk would get now.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub(crate) fn free_place(&self, disk: &DiskConfig) -> Result<Place, AttachDiskError> {
        free_place(disk, self.controllers.lock().get(&disk.controller).map(|controller| &**controller))
    }

    /// Attaches a disk that is open. A running guest is notified. The image is opened before, because the host may take long for
    /// that, and others use the disks meanwhile.
    ///
    /// # Errors
    /// Returns an error if the place cannot be used, also if another disk has got it meanwhile.
    pub(crate) fn insert(&self, disk: OpenDisk<'_>) -> Result<Place, AttachDiskError> {
        let mut controllers = self.controllers.lock();
        let number = disk.config.controller;
        let known = controllers.get(&number).cloned();
        let place = free_place(disk.config, known.as_deref())?;
        let controller = known.clone().unwrap_or_else(|| Controller::new(self.max_subchannels));
        let (lun, unit) = (place.lun, disk.unit(place.lun));
        controller.attach(lun, unit.clone()).map_err(|_| AttachDiskError::Taken(place))?;
        if known.is_none() {
            self.offer(&controller, number)?;
            controllers.insert(number, controller);
        }
        self.join(place, unit)?;
        Ok(place)
    }

    /// Detaches a disk at once, even if the guest uses it. Returns `false` if there is none.
    ///
    /// Long commands are cancelled, short ones finish, and then the image is closed. A running guest is notified.
    pub fn detach(&self, place: Place) -> bool {
        let gone = self.controller(place.controller).and_then(|controller| controller.detach(place.lun));
        let joined = self.joined().remove(&place);
        drop(joined);
        gone.is_some()
    }

    /// Makes a disk a device of the machine.
    fn join(&self, place: Place, unit: Arc<Unit>) -> Result<(), OfferError> {
        let joined = self.devices.add(Arc::new(DiskDevice { place, unit }))?;
        self.joined().insert(place, joined);
        Ok(())
    }

    fn joined(&self) -> MutexGuard<'_, BTreeMap<Place, Registration>> {
        self.joined.lock()
    }

    /// Checks whether the sizes of disks have changed. A running guest is notified of those that have.
    pub fn check_sizes(&self) {
        let controllers: Vec<_> = self.controllers.lock().values().cloned().collect();
        controllers.iter().for_each(|controller| controller.check_sizes());
    }

    /// Returns a function that enlarges a disk and notifies a running guest, or `None` if there is no such disk. The host may take
    /// long for that, and others use the disks meanwhile.
    ///
    /// The function returns an error with a remedy, and changes nothing, if that is not possible.
    pub(crate) fn grow(&self, place: Place) -> Option<impl FnOnce(u64) -> std::io::Result<()> + use<>> {
        let controller = self.controller(place.controller)?;
        let unit = controller.unit(place.lun)?;
        Some(move |size| {
            unit.grow(size)?;
            controller.check_sizes();
            Ok(())
        })
    }

    /// Checks the sizes on a separate thread, unless one is still running: a host that does not respond blocks nobody.
    pub(crate) fn check_sizes_aside(&self) {
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
        let controllers: Vec<_> = self.controllers.lock().values().map(Arc::downgrade).collect();
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
        self.controllers.lock().is_empty()
    }

    /// Returns a controller that has, or had, disks.
    pub(crate) fn controller(&self, number: u8) -> Option<Arc<Controller>> {
        self.controllers.lock().get(&number).cloned()
    }

    fn offer(&self, controller: &Arc<Controller>, number: u8) -> Result<(), OfferError> {
        let device = StorageVsp::numbered(controller.clone(), number).traced(self.tracer.clone());
        self.bus.offer_provider(Box::new(device)).map(drop)
    }
}

/// Returns the place that a disk would get on its controller, which is `None` if it has never had a disk.
fn free_place(disk: &DiskConfig, controller: Option<&Controller>) -> Result<Place, AttachDiskError> {
    let is_free = |lun: &u8| controller.is_none_or(|controller| controller.unit(*lun).is_none());
    let lowest = || (0..MAX_LUNS as u8).find(is_free);
    let lun = disk.lun.or_else(lowest).ok_or_else(|| ConfigError::Full(disk.controller, disk.path.clone()))?;
    let place = Place { controller: disk.controller, lun };
    if is_free(&lun) { Ok(place) } else { Err(AttachDiskError::Taken(place)) }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
