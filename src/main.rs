//! The `portolan` command.

fn main() -> std::process::ExitCode {
    portolan::cli::main()
}
