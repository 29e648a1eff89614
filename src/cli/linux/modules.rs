//! The modules of a kernel: where they are, and which others each needs.
//!
//! A package that was unpacked and not installed has no `modules.dep`, so this reads what the modules say themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;

/// Maximum depth of the folder of modules.
const MAX_DEPTH: usize = 16;
/// Maximum size of a module.
const MAX_SIZE: u64 = 64 << 20;

/// The reason why a module cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("{}: {}", .0.display(), .1)]
    Read(PathBuf, io::Error),
    #[error("{} has no module {name}, and the kernel has none built in; name the folder of this kernel's modules with --modules", .folder.display())]
    Missing { folder: PathBuf, name: String },
    #[error("{} is compressed, and {program} cannot unpack it: {reason}", .path.display())]
    Compressed { path: PathBuf, program: &'static str, reason: String },
}

/// The modules of a kernel.
pub struct Modules {
    folder: PathBuf,
    /// By name, with underscores.
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

/// A module to load.
pub struct Loaded {
    pub name: String,
    pub content: Vec<u8>,
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns the name of the module in a file.
fn name_of(file: &str) -> Option<String> {
    let (name, ending) = file.split_once(".ko")?;
    matches!(ending, "" | ".xz" | ".gz" | ".zst").then(|| plain(name))
}

impl Modules {
    /// Finds the modules below `folder`, which is `/lib/modules/RELEASE` or a folder like it.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be read.
    pub fn find(folder: &Path) -> Result<Self, ModuleError> {
        let mut files = BTreeMap::new();
        scan(folder, MAX_DEPTH, &mut files)?;
        let built_in = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let built_in = built_in.lines().filter_map(|line| name_of(line.rsplit('/').next()?)).collect();
        Ok(Self { folder: folder.to_owned(), files, built_in })
    }

    /// Returns the modules `names` with those that they need, in the order in which they can be loaded.
    ///
    /// # Errors
    /// Returns an error if one is missing or cannot be read.
    pub fn load(&self, names: &[&str]) -> Result<Vec<Loaded>, ModuleError> {
        let mut loaded = Vec::new();
        let mut seen = BTreeSet::new();
        names.iter().try_for_each(|name| self.add(&plain(name), &mut seen, &mut loaded))?;
        Ok(loaded)
    }

    /// Each module is added once, so a circle ends.
    fn add(&self, name: &str, seen: &mut BTreeSet<String>, loaded: &mut Vec<Loaded>) -> Result<(), ModuleError> {
        if self.built_in.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            return Err(ModuleError::Missing { folder: self.folder.clone(), name: name.to_owned() });
        };
        let content = read(path)?;
        for needed in needs(&content) {
            self.add(&needed, seen, loaded)?;
        }
        loaded.push(Loaded { name: name.to_owned(), content });
        Ok(())
    }
}

fn scan(folder: &Path, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ModuleError> {
    let failed = |error| ModuleError::Read(folder.to_owned(), error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth > 0 {
            scan(&entry.path(), depth - 1, files)?;
        } else if !kind.is_dir()
            && let Some(name) = name_of(&entry.file_name().to_string_lossy())
        {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let failed = |error| ModuleError::Read(path.to_owned(), error);
    if fs::metadata(path).map_err(failed)?.len() > MAX_SIZE {
        return Err(failed(io::Error::other("it is too large for a module")));
    }
    let content = fs::read(path).map_err(failed)?;
    let program = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => "xz",
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        _ => return Ok(content),
    };
    unpack(program, content).map_err(|reason| ModuleError::Compressed { path: path.to_owned(), program, reason })
}

fn unpack(program: &str, content: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // Write from another thread, because the program writes output before it has read all input.
    let write = |mut input: ChildStdin| thread::Builder::new().spawn(move || input.write_all(&content));
    let writer = child.stdin.take().map(write).transpose().map_err(|error| error.to_string())?;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let _ = writer.map(thread::JoinHandle::join);
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Returns the names of the modules that a module needs: its section `.modinfo` has `depends=a,b`.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(place) = module.windows(KEY.len()).position(|part| part == KEY) else { return Vec::new() };
    let value = module[place + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(folder: &Path, file: &str, depends: &str) {
        fs::write(folder.join(file), format!("\x7fELF\0license=GPL\0depends={depends}\0retpoline=Y\0")).unwrap();
    }

    fn names(loaded: &[Loaded]) -> Vec<&str> {
        loaded.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn modules_come_after_their_dependencies() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        module(folder.path(), "net/hv_sock.ko", "hv-vmbus,vsock");
        module(folder.path(), "net/vsock.ko", "");
        module(folder.path(), "hv-vmbus.ko", "");
        fs::write(folder.path().join("modules.builtin"), "kernel/fs/fuse/fuse.ko\n").unwrap();
        let modules = Modules::find(folder.path()).unwrap();
        let loaded = modules.load(&["hv_sock", "fuse", "hv_vmbus"]).unwrap();
        assert_eq!(names(&loaded), ["hv_vmbus", "vsock", "hv_sock"], "fuse is built in");
    }

    #[test]
    fn missing_and_circular_dependencies_of_modules_do_not_cause_a_loop() {
        let folder = tempfile::tempdir().unwrap();
        module(folder.path(), "a.ko", "b");
        module(folder.path(), "b.ko", "a");
        module(folder.path(), "c.ko", "d");
        let modules = Modules::find(folder.path()).unwrap();
        assert_eq!(names(&modules.load(&["a"]).unwrap()), ["b", "a"]);
        assert!(matches!(modules.load(&["c"]), Err(ModuleError::Missing { name, .. }) if name == "d"));
    }

    #[test]
    fn a_compressed_module_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        module(folder.path(), "a.ko", "");
        let packed = Command::new("gzip").arg(folder.path().join("a.ko")).status().unwrap();
        assert!(packed.success());
        let loaded = Modules::find(folder.path()).unwrap().load(&["a"]).unwrap();
        assert!(loaded[0].content.starts_with(b"\x7fELF"));
    }
}
