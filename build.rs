//! Compiles the guest images: see `guest-images/README.md`.
//!
//! A folder of `guest-images/` is an image: its C files, the runtime, and start-up code for PVH and the Linux
//! 64-bit entry. `hello` is also linked for every other boot protocol, and each file of `flat/` is an image by itself,
//! without the runtime. All end up in one folder, which the crate and its tests find by `env!("VIRIDIAN_GUEST_IMAGES")`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

const IMAGES: &str = "guest-images";
const RUNTIME: &str = "guest-images/runtime";
const START: &str = "guest-images/runtime/start";
const FLAT: &str = "guest-images/flat";

/// No SSE and no x87: the images also run where KVM emulates ring 0, and interrupts save the general registers only.
const COMPILE: &str = "-c -O2 -m64 -std=gnu11 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -fno-stack-protector \
    -fcf-protection=none -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-strict-aliasing -ffunction-sections -fdata-sections -Wall -Wextra -Werror -Iguest-images/runtime";
const LINK: &str = "-m64 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack";

/// One way to link an image: for which boot protocols, to which place, into which kind of file.
struct Variant {
    /// What the image's name gets appended.
    suffix: &'static str,
    /// Files of `runtime/start`; the first has the image's first bytes.
    start: &'static [&'static str],
    entry: &'static str,
    base: &'static str,
    script: &'static str,
    format: &'static str,
}

const ELF: Variant = Variant {
    suffix: "",
    start: &["pvh.S", "linux64.S"],
    entry: "linux_start",
    base: "0x100000",
    script: "image.ld",
    format: "elf64-x86-64",
};
const BINARY: Variant = Variant { entry: "image_begin", format: "binary", ..ELF };
/// Loaded where a PC's firmware loads a boot sector: real mode reaches no higher than the first megabyte.
const REAL_MODE: Variant = Variant { base: "0x7c00", ..BINARY };

/// `hello` proves that each boot protocol works, each alone in its file.
const HELLO_VARIANTS: &[Variant] = &[
    Variant { suffix: "-linux64", start: &["linux64.S"], ..ELF },
    Variant { suffix: "-pvh", start: &["pvh.S"], entry: "pvh_start", ..ELF },
    Variant { suffix: "-multiboot", start: &["multiboot.S"], entry: "multiboot_start", format: "elf32-i386", ..ELF },
    Variant { suffix: "-multiboot-addresses", start: &["multiboot_addresses.S"], ..BINARY },
    Variant { suffix: "-bzimage", start: &["bzimage.S"], script: "bzimage.ld", ..BINARY },
    Variant { suffix: "-flat16", start: &["flat16.S"], ..REAL_MODE },
    Variant { suffix: "-flat32", start: &["flat32.S"], ..BINARY },
    Variant { suffix: "-flat64", start: &["flat64.S"], ..BINARY },
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={IMAGES}");
    println!("cargo::rerun-if-env-changed=CC");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("guest-images");
    println!("cargo::rustc-env=VIRIDIAN_GUEST_IMAGES={}", output.display());
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture != "x86_64") {
        return; // The crate itself says that it is for x86-64 only.
    }
    if let Err(message) = Toolchain::new(&output).and_then(|toolchain| toolchain.build()) {
        println!("cargo::error={message}");
        exit(1);
    }
}

/// An image to be linked: its name, its own objects, and how.
struct Link {
    name: String,
    objects: Vec<PathBuf>,
    variant: &'static Variant,
}

struct Toolchain {
    /// The compiler and perhaps first arguments, as `CC="ccache gcc"` has them.
    compiler: Vec<String>,
    images: PathBuf,
    objects: PathBuf,
}

impl Toolchain {
    fn new(images: &Path) -> Result<Self, String> {
        let objects = images.with_file_name("guest-objects");
        // Afresh, so that an image whose source is gone is gone too.
        let _ = fs::remove_dir_all(images);
        for folder in [images, &objects] {
            fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        }
        let wanted = env::var("CC").unwrap_or_default();
        let wanted = if wanted.trim().is_empty() { "cc" } else { &wanted };
        let compiler = wanted.split_whitespace().map(String::from).collect();
        Ok(Self { compiler, images: images.into(), objects })
    }

    fn build(&self) -> Result<(), String> {
        let mut folders = list(Path::new(IMAGES))?;
        folders.retain(|path| path.is_dir() && path != Path::new(RUNTIME) && path != Path::new(FLAT));
        let mut all = [sources(Path::new(RUNTIME))?, sources(Path::new(START))?, sources(Path::new(FLAT))?].concat();
        for folder in &folders {
            all.extend(sources(folder)?);
        }
        in_parallel(&all, |source| self.compile(source))?;

        let runtime = self.objects_of(Path::new(RUNTIME))?;
        let mut links = Vec::new();
        for folder in &folders {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let variants = if name == "hello" { HELLO_VARIANTS } else { &[] };
            for variant in [&ELF].into_iter().chain(variants) {
                let start = variant.start.iter().map(|file| self.object(&Path::new(START).join(file)));
                let objects = start.chain(self.objects_of(folder)?).chain(runtime.iter().cloned()).collect();
                links.push(Link { name: format!("{name}{}", variant.suffix), objects, variant });
            }
        }
        for source in sources(Path::new(FLAT))? {
            let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let variant = if name.ends_with("16") { &REAL_MODE } else { &BINARY };
            links.push(Link { name, objects: vec![self.object(&source)], variant });
        }
        in_parallel(&links, |link| self.link(link))
    }

    /// Where a source's object goes: `runtime/start/pvh.S` to `runtime-start-pvh.S.o`.
    fn object(&self, source: &Path) -> PathBuf {
        let relative = source.strip_prefix(IMAGES).unwrap_or(source).to_string_lossy().replace('/', "-");
        self.objects.join(relative + ".o")
    }

    fn objects_of(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(sources(folder)?.iter().map(|source| self.object(source)).collect())
    }

    fn compile(&self, source: &Path) -> Result<(), String> {
        self.run(self.compiler().args(COMPILE.split(' ')).arg("-o").arg(self.object(source)).arg(source))
    }

    fn link(&self, Link { name, objects, variant }: &Link) -> Result<(), String> {
        let script = Path::new(RUNTIME).join(variant.script);
        // The linker can leave out what an image does not use only where it writes the format that it reads.
        let unused = if variant.format == ELF.format { "-Wl,--gc-sections" } else { "-Wl,--no-gc-sections" };
        self.run(
            self.compiler()
                .args(LINK.split(' '))
                .arg(unused)
                .arg(format!("-Wl,-T,{}", script.display()))
                .arg(format!("-Wl,--defsym=IMAGE_BASE={}", variant.base))
                .arg(format!("-Wl,-e,{}", variant.entry))
                .arg(format!("-Wl,--oformat={}", variant.format))
                .arg("-o")
                .arg(self.images.join(name))
                .args(objects),
        )
    }

    fn compiler(&self) -> Command {
        let mut command = Command::new(&self.compiler[0]);
        command.args(&self.compiler[1..]);
        command
    }

    /// Runs the compiler; what it says is shown only if it fails.
    fn run(&self, command: &mut Command) -> Result<(), String> {
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "the guest images need a C compiler, and {:?} is not there: install one (Debian: apt-get install gcc) \
                 or name one in the environment variable CC",
                self.compiler[0]
            ),
            _ => format!("cannot run the C compiler {:?}: {error}", self.compiler[0]),
        })?;
        if output.status.success() {
            return Ok(());
        }
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        Err(format!("the C compiler refuses a guest image: {command:?}"))
    }
}

/// The C and assembly files right in a folder, in a dependable order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_source = |path: &PathBuf| matches!(path.extension().and_then(OsStr::to_str), Some("c" | "S"));
    Ok(list(folder)?.into_iter().filter(is_source).collect())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<PathBuf> = entries
        .map_err(|error| format!("cannot list {}: {error}", folder.display()))?
        .iter()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    Ok(paths)
}

/// Does the work for every item, on as many threads as cargo allows; the first failure is the result.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), String> + Sync) -> Result<(), String> {
    let threads = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let worker = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(message) = work(item) {
                failure.lock().expect("no worker panics").get_or_insert(message);
                return;
            }
        }
    };
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
    failure.into_inner().expect("no worker panics").map_or(Ok(()), Err)
}
