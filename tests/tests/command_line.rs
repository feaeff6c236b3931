//! The commands beside the server, run as an operator would.

mod command_line {
    mod config;
    mod look;
    mod publish;
    mod subscribe;
}
