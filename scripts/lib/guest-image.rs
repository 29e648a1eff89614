//! The program behind `scripts/guest-image`, which compiles and starts it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, process, thread};

#[path = "../../guest-images/toolchain.rs"]
mod toolchain;

use toolchain::{ELF, Toolchain, sources};

const USAGE: &str = "\
Usage: scripts/guest-image FOLDER|FILE... -o IMAGE [-- COMPILER OPTION...]

Builds a guest image of your own on the runtime of guest-images/: an ELF kernel that `viridian run --kernel IMAGE` and
`Builder::kernel` start. Of a folder it takes the C files and the assembly files (.S) right in it; one file has
`int main(void)`, and what main returns is the run's exit code. guest-images/README.md says what the runtime offers.

  -o IMAGE   the file to be made
  --         what follows goes to the C compiler for every source: -DNAME=VALUE, -I FOLDER, -Werror

The compiler is cc, or the one that the environment variable CC names.";

/// The arguments of the program.
struct Arguments {
    sources: Vec<PathBuf>,
    image: PathBuf,
    options: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let root = PathBuf::from(arguments.next().unwrap_or_default());
    let arguments: Vec<String> = match arguments.map(|argument| argument.into_string()).collect() {
        Ok(arguments) => arguments,
        Err(argument) => return failed(&format!("{argument:?} is not UTF-8"), 2),
    };
    if arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "-h" || argument == "--help")
    {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let arguments = match parse(arguments) {
        Ok(arguments) => arguments,
        Err(message) => return failed(&format!("{message}\n\n{USAGE}"), 2),
    };
    match build(&root.join("guest-images"), arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message, 1),
    }
}

fn failed(message: &str, code: u8) -> ExitCode {
    eprintln!("guest-image: {message}");
    code.into()
}

fn parse(arguments: Vec<String>) -> Result<Arguments, String> {
    let (mut inputs, mut image, mut options) = (Vec::new(), None, Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--" => options.extend(arguments.by_ref()),
            "-o" => image = Some(PathBuf::from(arguments.next().ok_or("-o wants the name of a file")?)),
            option if option.starts_with('-') => {
                return Err(format!("there is no option {option}; options for the compiler come after --"));
            }
            _ => inputs.push(PathBuf::from(argument)),
        }
    }
    let image = image.ok_or("-o IMAGE is missing: where is the image to go?")?;
    if inputs.is_empty() {
        return Err("name the folder of your guest, or its C files".into());
    }
    let mut all = Vec::new();
    for input in inputs {
        all.extend(sources_of(&input)?);
    }
    Ok(Arguments { sources: all, image, options })
}

fn sources_of(input: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = input.display();
    if input.is_dir() {
        let found = sources(input)?;
        return match found.is_empty() {
            true => Err(format!("{shown} has no C files (.c) and no assembly files (.S)")),
            false => Ok(found),
        };
    }
    match input.extension().and_then(|extension| extension.to_str()) {
        _ if !input.exists() => Err(format!("there is no file or folder {shown}")),
        Some("c" | "S") => Ok(vec![input.to_owned()]),
        _ => Err(format!("{shown} is neither a folder nor a C file (.c) nor an assembly file (.S)")),
    }
}

fn build(images: &Path, Arguments { sources, image, options }: Arguments) -> Result<(), String> {
    let folder = image.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(format!("{} is to go into {}, which is no folder", image.display(), folder.display()));
    }
    if image.is_dir() {
        return Err(format!("{} is a folder; name a file for the image, such as {0}/guest.elf", image.display()));
    }
    let objects = Objects::new()?;
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let toolchain = Toolchain::new(images, &objects.0, threads, options);
    let linked = toolchain.objects(&[toolchain.start(&ELF), sources.clone(), toolchain.runtime()?].concat());
    if linked.iter().collect::<BTreeSet<_>>().len() < linked.len() {
        return Err("a source was named twice, or two have paths that differ only in / and -".into());
    }
    // Check everything that may be wrong first.
    toolchain.compile(&[sources, toolchain.start(&ELF), toolchain.runtime()?].concat())?;
    toolchain.link(&image, &linked, &ELF)
}

/// A folder for objects, which is removed when it is dropped.
struct Objects(PathBuf);

impl Objects {
    fn new() -> Result<Self, String> {
        let folder = env::temp_dir().join(format!("guest-image-{}", process::id()));
        // Fails if somebody else has created the folder.
        fs::create_dir(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
