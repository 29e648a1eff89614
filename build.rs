//! Compiles the guest images: see `guest-images/README.md`.
//!
//! A folder of `guest-images/` is an image: its C files, the runtime, and start-up code for PVH and the Linux
//! 64-bit entry. `hello` is also linked for every other boot protocol, and each file of `flat/` is an image by itself,
//! without the runtime. All end up in one folder, which the crate and its tests find by `env!("VIRIDIAN_GUEST_IMAGES")`.
//!
//! `guest-agent/` is a program for Linux guests; `env!("VIRIDIAN_AGENT")` is its path.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::{env, fs};

#[path = "guest-images/toolchain.rs"]
mod toolchain;

use toolchain::{ELF, Toolchain, Variant, list, sources};

const AGENT: &str = "guest-agent";
const IMAGES: &str = "guest-images";
const RUNTIME: &str = "guest-images/runtime";
const START: &str = "guest-images/runtime/start";
const FLAT: &str = "guest-images/flat";

const BINARY: Variant = Variant { entry: "image_begin", format: "binary", ..ELF };
/// Loaded where a PC's firmware loads a boot sector: real mode reaches no higher than the first megabyte.
const REAL_MODE: Variant = Variant { base: "0x7c00", ..BINARY };

/// `hello` proves that each boot protocol works, each alone in its file: what is appended to the image's name, and how it is linked.
const HELLO_VARIANTS: &[(&str, Variant)] = &[
    ("-linux64", Variant { start: &["linux64.S"], ..ELF }),
    ("-pvh", Variant { start: &["pvh.S"], entry: "pvh_start", ..ELF }),
    ("-multiboot", Variant { start: &["multiboot.S"], entry: "multiboot_start", format: "elf32-i386", ..ELF }),
    ("-multiboot-addresses", Variant { start: &["multiboot_addresses.S"], ..BINARY }),
    ("-bzimage", Variant { start: &["bzimage.S"], script: "bzimage.ld", ..BINARY }),
    ("-flat16", Variant { start: &["flat16.S"], ..REAL_MODE }),
    ("-flat32", Variant { start: &["flat32.S"], ..BINARY }),
    ("-flat64", Variant { start: &["flat64.S"], ..BINARY }),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={IMAGES}");
    println!("cargo::rerun-if-changed={AGENT}");
    println!("cargo::rerun-if-env-changed=CC");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("guest-images");
    println!("cargo::rustc-env=VIRIDIAN_GUEST_IMAGES={}", output.display());
    println!("cargo::rustc-env=VIRIDIAN_AGENT={}", output.with_file_name("guest-agent").display());
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture != "x86_64") {
        return; // The crate itself says that it is for x86-64 only.
    }
    if let Err(message) = build(&output) {
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

/// Builds all images into the folder `images`.
fn build(images: &Path) -> Result<(), String> {
    let objects = images.with_file_name("guest-objects");
    // Afresh, so that an image whose source is gone is gone too.
    let _ = fs::remove_dir_all(images);
    for folder in [images, &objects] {
        fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    }
    let threads = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let toolchain = Toolchain::new(Path::new(IMAGES), &objects, threads, vec!["-Werror".into()]);

    toolchain.program(&images.with_file_name("guest-agent"), &sources(Path::new(AGENT))?)?;

    let mut folders = list(Path::new(IMAGES))?;
    folders.retain(|path| path.is_dir() && path != Path::new(RUNTIME) && path != Path::new(FLAT));
    let runtime = toolchain.runtime()?;
    let mut all = [runtime.clone(), sources(Path::new(START))?, sources(Path::new(FLAT))?].concat();
    for folder in &folders {
        all.extend(sources(folder)?);
    }
    toolchain.compile(&all)?;

    let mut links = Vec::new();
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let variants = if name == "hello" { HELLO_VARIANTS } else { &[] };
        let variants = variants.iter().map(|(suffix, variant)| (*suffix, variant));
        for (suffix, variant) in [("", &ELF)].into_iter().chain(variants) {
            let all = [toolchain.start(variant), sources(folder)?, runtime.clone()].concat();
            let objects = toolchain.objects(&all);
            links.push(Link { name: format!("{name}{suffix}"), objects, variant });
        }
    }
    for source in sources(Path::new(FLAT))? {
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let variant = if name.ends_with("16") { &REAL_MODE } else { &BINARY };
        links.push(Link { name, objects: toolchain.objects(&[source]), variant });
    }
    toolchain
        .in_parallel(&links, |Link { name, objects, variant }| toolchain.link(&images.join(name), objects, variant))
}
