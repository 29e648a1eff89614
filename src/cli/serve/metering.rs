//! `/meter` and `/machines/NAME/meter`: what machines have used.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::api::{Answered, Call, Reply};
use super::error::Problem;
use super::meter::total;
use super::supervisor::Supervisor;

/// The unit in which a file says what it has allocated (stat(2)).
const BLOCK: u64 = 512;

/// Asks a machine that runs for what it has used until now.
fn refresh(supervisor: &Supervisor, name: &str) {
    if let Ok(remote) = supervisor.remote(name) {
        // One that does not answer has what was known of it.
        let _ = supervisor.refresh(name, &remote);
    }
}

fn show(call: &Call<'_>) -> Result<Value, Problem> {
    let (mut shown, images) = {
        let machines = call.service.supervisor.machines();
        let machine = machines.get(call.name).ok_or_else(|| Problem::no_machine(call.name))?;
        // A machine that runs says it itself, also of disks that were attached.
        let says = machine.process.is_some() && machine.meter.allocated().is_some();
        let config = machine.definition.as_ref().ok().map(|definition| &definition.config).filter(|_| !says);
        let images: Option<Vec<_>> = config.map(|config| config.disks.iter().map(|disk| disk.path.clone()).collect());
        (machine.meter.to_json(call.name), images)
    };
    // A file system that hangs delays nobody else: the machines are not locked.
    if let Some(images) = images {
        shown["disk-allocated-bytes"] = json!(allocated(&images));
    }
    Ok(shown)
}

/// Returns the number of bytes that the host has allocated for the files of images. Others are no files, or do not exist.
fn allocated(images: &[PathBuf]) -> u64 {
    let files = images.iter().filter_map(|path| fs::metadata(path).ok()).filter(fs::Metadata::is_file);
    // The same file counts once.
    let blocks: BTreeMap<_, _> = files.map(|file| ((file.dev(), file.ino()), file.blocks())).collect();
    blocks.values().fold(0, |sum: u64, blocks| sum.saturating_add(blocks.saturating_mul(BLOCK)))
}

/// Returns what a machine has used.
pub fn get(call: &Call<'_>) -> Answered {
    refresh(&call.service.supervisor, call.name);
    show(call).map(Reply::Json)
}

/// Begins to measure a machine anew.
pub fn reset(call: &Call<'_>) -> Answered {
    let supervisor = &call.service.supervisor;
    refresh(supervisor, call.name);
    supervisor.change(call.name, |machine| {
        machine.meter.reset();
        Ok(())
    })?;
    supervisor.save_meter(call.name);
    show(call).map(Reply::Json)
}

/// Returns what all machines have used, as far as it is known without asking them, and the sums.
pub fn all(call: &Call<'_>) -> Answered {
    let machines = call.service.supervisor.machines();
    let meters: Vec<_> = machines.iter().map(|(name, machine)| machine.meter.to_json(name)).collect();
    drop(machines);
    Ok(Reply::Json(json!({ "total": total(&meters), "machines": meters })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_images_have_allocated_is_that_of_files_and_each_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("full"), vec![1; 100_000]).unwrap();
        fs::File::create(path("sparse")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink(path("full"), path("link")).unwrap();
        let full = fs::metadata(path("full")).unwrap().blocks() * BLOCK;
        assert_eq!(allocated(&[path("full"), path("link"), "memory:16M".into(), folder.path().into()]), full);
        assert!(allocated(&[path("full"), path("sparse")]) < full + (1 << 20));
        assert_eq!(allocated(&[]), 0);
    }
}
