//! Compiles and links guest images. Used by `build.rs` for the images of this folder, and by `scripts/guest-image` for images
//! of users.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

/// No SSE and no x87: the images also run on a KVM that emulates ring 0, and interrupt handlers save only general registers.
const COMPILE: &str = "-c -O2 -m64 -std=gnu11 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -fno-stack-protector \
    -fcf-protection=none -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-strict-aliasing -ffunction-sections -fdata-sections -Wall -Wextra";
const LINK: &str = "-m64 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack";

/// Options for a Linux program without libraries, not even C's, so that it compiles and runs on every distribution.
const PROGRAM: &str = "-O2 -m64 -std=gnu11 -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none \
    -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -fno-strict-aliasing -Wall -Wextra -nostdlib -static -no-pie \
    -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--strip-all";

/// A way to link an image: its boot protocols, its address, and its file format.
pub struct Variant {
    /// Files of `runtime/start`. The first one has the first bytes of the image.
    pub start: &'static [&'static str],
    pub entry: &'static str,
    pub base: &'static str,
    pub script: &'static str,
    pub format: &'static str,
}

/// An ELF kernel for PVH and for the 64-bit entry of Linux.
pub const ELF: Variant = Variant {
    start: &["pvh.S", "linux64.S"],
    entry: "linux_start",
    base: "0x100000",
    script: "image.ld",
    format: "elf64-x86-64",
};

/// The host's C compiler, and the folders for sources and objects.
pub struct Toolchain {
    /// The compiler, perhaps with arguments, as in `CC="ccache gcc"`.
    compiler: Vec<String>,
    /// The folder `guest-images`.
    images: PathBuf,
    objects: PathBuf,
    threads: usize,
    /// Options for every source.
    options: Vec<String>,
}

impl Toolchain {
    /// Compiles into the folder `objects`, with `options` in addition to those that every source needs.
    pub fn new(images: &Path, objects: &Path, threads: usize, options: Vec<String>) -> Self {
        let wanted = env::var("CC").unwrap_or_default();
        let wanted = if wanted.trim().is_empty() { "cc" } else { &wanted };
        let compiler = wanted.split_whitespace().map(String::from).collect();
        Self { compiler, images: images.into(), objects: objects.into(), threads, options }
    }

    /// Returns the sources of the runtime, and the start-up code of all variants.
    pub fn runtime(&self) -> Result<Vec<PathBuf>, String> {
        sources(&self.images.join("runtime"))
    }

    /// Returns the start-up code of a variant.
    pub fn start(&self, variant: &Variant) -> Vec<PathBuf> {
        variant.start.iter().map(|file| self.images.join("runtime/start").join(file)).collect()
    }

    /// Compiles all sources to their [`object`](Self::object) files.
    pub fn compile(&self, sources: &[PathBuf]) -> Result<(), String> {
        self.in_parallel(sources, |source| {
            let include = self.images.join("runtime");
            let mut command = self.command();
            command.args(COMPILE.split(' ')).arg("-I").arg(include).args(&self.options);
            self.run(command.arg("-o").arg(self.object(source)).arg(source))
        })
    }

    /// Returns the path of a source's object: `runtime-start-pvh.S.o` for `runtime/start/pvh.S`.
    pub fn object(&self, source: &Path) -> PathBuf {
        let relative = source.strip_prefix(&self.images).unwrap_or(source).to_string_lossy().replace('/', "-");
        self.objects.join(relative + ".o")
    }

    /// Returns the objects of sources.
    pub fn objects(&self, sources: &[PathBuf]) -> Vec<PathBuf> {
        sources.iter().map(|source| self.object(source)).collect()
    }

    /// Links an image.
    pub fn link(&self, image: &Path, objects: &[PathBuf], variant: &Variant) -> Result<(), String> {
        let script = self.images.join("runtime").join(variant.script);
        // The linker can remove unused sections only if its output has the format of its input.
        let unused = if variant.format == ELF.format { "-Wl,--gc-sections" } else { "-Wl,--no-gc-sections" };
        self.run(
            self.command()
                .args(LINK.split(' '))
                .arg(unused)
                .arg(format!("-Wl,-T,{}", script.display()))
                .arg(format!("-Wl,--defsym=IMAGE_BASE={}", variant.base))
                .arg(format!("-Wl,-e,{}", variant.entry))
                .arg(format!("-Wl,--oformat={}", variant.format))
                .arg("-o")
                .arg(image)
                .args(objects),
        )
    }

    /// Compiles and links a program for Linux from its sources.
    #[allow(dead_code)] // Only used by `build.rs`.
    pub fn program(&self, program: &Path, sources: &[PathBuf]) -> Result<(), String> {
        self.run(self.command().args(PROGRAM.split(' ')).args(&self.options).arg("-o").arg(program).args(sources))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.compiler[0]);
        command.args(&self.compiler[1..]);
        command
    }

    /// Runs the compiler, and shows its messages.
    fn run(&self, command: &mut Command) -> Result<(), String> {
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "guest images need a C compiler, and {:?} is not there: install one (Debian: apt-get install gcc) \
                 or name one in the environment variable CC",
                self.compiler[0]
            ),
            _ => format!("cannot run the C compiler {:?}: {error}", self.compiler[0]),
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        eprint!("{said}");
        match output.status.success() {
            true => Ok(()),
            false if said.contains("undefined reference to `main'") || said.contains("undefined symbol: main") => {
                Err("a guest image starts with `int main(void)`, and none of its files has one".into())
            }
            false => Err(format!("the C compiler refuses a guest image: {command:?}")),
        }
    }

    /// Calls `work` for every item, on several threads. Returns the first error.
    pub fn in_parallel<T: Sync>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<(), String> + Sync,
    ) -> Result<(), String> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let worker = || {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(message) = work(item) {
                    failure.lock().expect("no worker panics").get_or_insert(message);
                    // The other threads find nothing left to do.
                    next.store(items.len(), Ordering::Relaxed);
                    return;
                }
            }
        };
        thread::scope(|scope| (0..self.threads.max(1)).for_each(|_| drop(scope.spawn(worker))));
        failure.into_inner().expect("no worker panics").map_or(Ok(()), Err)
    }
}

/// Returns the C and assembly files directly in a folder, sorted.
pub fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_source = |path: &PathBuf| matches!(path.extension().and_then(OsStr::to_str), Some("c" | "S"));
    Ok(list(folder)?.into_iter().filter(is_source).collect())
}

/// Returns the entries of a folder, sorted.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<PathBuf> = entries
        .map_err(|error| format!("cannot list {}: {error}", folder.display()))?
        .iter()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    Ok(paths)
}
