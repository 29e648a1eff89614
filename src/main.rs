//! The `viridian` program. See the library for everything that is not a command line.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
