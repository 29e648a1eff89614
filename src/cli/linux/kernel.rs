//! The kernel to boot: the user's, or Debian's, which is fetched once with apt and not installed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use viridian::process::{Marked, path_remedy};

use super::children::Children;

/// Debian's package that depends on its newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";
/// Offsets in a bzImage (Linux, Documentation/x86/boot.rst): the header's magic, and where the version is.
const MAGIC: u64 = 0x202;
const VERSION: u64 = 0x20e;
/// The version's offset is relative to this.
const VERSION_BASE: u64 = 0x200;
const MAX_VERSION: usize = 256;

/// A kernel, and the folder of its modules.
pub struct Kernel {
    pub path: PathBuf,
    pub modules: Option<PathBuf>,
}

/// The reason why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("--kernel {}: {}{}", .0.display(), .1, path_remedy(.1))]
    Read(PathBuf, io::Error),
    #[error(
        "cannot fetch Debian's kernel: there is no {0} here; name a kernel with --kernel bzImage --modules /lib/modules/RELEASE"
    )]
    NoProgram(&'static str),
    #[error(
        "cannot fetch Debian's kernel: {0}; try apt-get update, or name a kernel with --kernel bzImage --modules /lib/modules/RELEASE"
    )]
    NotFetched(String),
    #[error("cannot keep Debian's kernel: {}: {}", .0.display(), .1)]
    Cache(PathBuf, io::Error),
}

/// Returns the kernel that the user names. Without `modules`, its modules are where a distribution has them.
///
/// # Errors
/// Returns an error if the kernel cannot be read.
pub fn named(path: &Path, modules: Option<PathBuf>) -> Result<Kernel, KernelError> {
    let installed = || -> Result<Option<PathBuf>, KernelError> {
        let release = release(path).map_err(|error| KernelError::Read(path.to_owned(), error))?;
        Ok(release.map(|release| Path::new("/lib/modules").join(release)).filter(|folder| folder.is_dir()))
    };
    let modules = modules.map_or_else(installed, |modules| Ok(Some(modules)))?;
    Ok(Kernel { path: path.to_owned(), modules })
}

/// Returns what `uname -r` says under a bzImage. Another file does not say.
fn release(path: &Path) -> io::Result<Option<String>> {
    let file = File::open(path)?;
    let mut magic = [0; 4];
    let mut offset = [0; 2];
    if file.read_exact_at(&mut magic, MAGIC).is_err() || magic != *b"HdrS" {
        return Ok(None);
    }
    file.read_exact_at(&mut offset, VERSION)?;
    let mut text = [0; MAX_VERSION];
    let length = file.read_at(&mut text, VERSION_BASE + u64::from(u16::from_le_bytes(offset)))?;
    let text = String::from_utf8_lossy(&text[..length]);
    let release = text.split([' ', '\0']).next().unwrap_or_default();
    // The release is used as a part of a path.
    let is_name = !release.is_empty() && !release.starts_with('.') && !release.contains('/');
    Ok(is_name.then(|| release.to_owned()))
}

/// Returns Debian's kernel for virtual machines, out of the cache or fetched by apt.
///
/// # Errors
/// See [`KernelError`].
pub fn debian(say: impl Fn(&str), children: &Children) -> Result<Kernel, KernelError> {
    let cache = cache_folder();
    let folder = cache.join(PACKAGE);
    if !folder.is_dir() {
        fetch(&cache, &folder, say, children)?;
    }
    unpacked(&folder).map_err(|error| KernelError::Cache(folder, error))
}

fn cache_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(|| "/var/cache".into()).join("viridian")
}

/// Finds kernel and modules in an unpacked package.
fn unpacked(folder: &Path) -> io::Result<Kernel> {
    let first = |folder: PathBuf, start: &str| {
        let mut names = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
        names.retain(|entry| entry.file_name().to_string_lossy().starts_with(start));
        names.pop().map(|entry| entry.path()).ok_or_else(|| {
            io::Error::other(format!("{} has no {start}; remove {}", folder.display(), folder.display()))
        })
    };
    let path = first(folder.join("boot"), "vmlinuz-")?;
    let modules = [folder.join("lib/modules"), folder.join("usr/lib/modules")];
    let modules = modules.into_iter().find(|folder| folder.is_dir()).unwrap_or_else(|| folder.join("lib/modules"));
    Ok(Kernel { path, modules: Some(first(modules, "")?) })
}

fn run(children: &Children, program: &'static str, arguments: &[&str], folder: &Path) -> Result<Output, KernelError> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("LC_ALL", "C");
    let output = children.run(&mut command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KernelError::NoProgram(program),
        _ => KernelError::NotFetched(format!("{program}: {error}")),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
    Err(KernelError::NotFetched(format!("{program}: {}", Marked(last))))
}

fn fetch(cache: &Path, folder: &Path, say: impl Fn(&str), children: &Children) -> Result<(), KernelError> {
    let failed = |error| KernelError::Cache(cache.to_owned(), error);
    fs::create_dir_all(cache).map_err(failed)?;
    // The package of that name is empty: it depends on the one with the kernel.
    let depends = run(children, "apt-cache", &["depends", "--no-recommends", "--no-suggests", PACKAGE], cache)?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let name = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).find(|name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        name.starts_with("linux-image-") && name.chars().all(plain)
    });
    let name = name.ok_or_else(|| KernelError::NotFetched(format!("apt knows no {PACKAGE}")))?;
    say(&format!("fetching Debian's {name} into {}", cache.display()));
    // A temporary folder: it is renamed to the cached one, or removed.
    let work = cache.join(format!(".fetch-{}", std::process::id()));
    fs::create_dir(&work).map_err(failed)?;
    let result = (|| {
        run(children, "apt-get", &["download", "-qq", "-o", "APT::Sandbox::User=root", name], &work)?;
        let files = fs::read_dir(&work).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        let archive =
            files.iter().map(fs::DirEntry::path).find(|path| path.extension().is_some_and(|end| end == "deb"));
        let archive = archive.ok_or_else(|| KernelError::NotFetched("apt-get download left no package".into()))?;
        run(children, "dpkg-deb", &["--extract", &archive.to_string_lossy(), "root"], &work)?;
        match fs::rename(work.join("root"), folder) {
            // Somebody else was faster.
            Err(_) if folder.is_dir() => Ok(()),
            other => other.map_err(failed),
        }
    })();
    let _ = fs::remove_dir_all(&work);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_a_bzimage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bzImage");
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        bytes[0x300..0x311].copy_from_slice(b"6.1.0-9-x (a@b) #");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(release(&path).unwrap().as_deref(), Some("6.1.0-9-x"));
        bytes[0x300..0x304].copy_from_slice(b"../x");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(release(&path).unwrap(), None, "a name that leads elsewhere");
        fs::write(&path, b"\x7fELF").unwrap();
        assert_eq!(release(&path).unwrap(), None);
        assert!(release(&folder.path().join("no")).is_err());
    }
}
