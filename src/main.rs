//! Parse, run, exit. Everything else is in the library.

fn main() -> std::process::ExitCode {
    outgate::cli::main()
}
