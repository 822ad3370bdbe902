//! What a transfer asks of the host. The tests put a folder of their own machine in its place.

use deployer_plugin::command::Run;
use deployer_plugin::progress::{self, Amount};
use deployer_plugin::target::{self, Command, Entry, Output};
use deployer_plugin::types::Error;
use deployer_plugin::{control, log, service};

pub trait Server {
    fn run(&mut self, command: &Command) -> Result<Output, Error>;
    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Error>;
    fn upload(&mut self, entries: &[Entry], destination: &str) -> Result<(), Error>;
    fn permissions(&mut self, paths: &[String]) -> Result<Vec<u32>, Error>;
    fn report(&mut self, amount: Amount);
    fn log(&mut self, level: log::Level, message: &str);
    fn cancelled(&self) -> bool;
}

pub struct Host;

impl Server for Host {
    fn run(&mut self, command: &Command) -> Result<Output, Error> {
        command.output()
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        target::read_file(path)
    }

    fn upload(&mut self, entries: &[Entry], destination: &str) -> Result<(), Error> {
        target::upload(entries, destination)
    }

    fn permissions(&mut self, paths: &[String]) -> Result<Vec<u32>, Error> {
        service::permissions(paths)
    }

    fn report(&mut self, amount: Amount) {
        progress::report(amount);
    }

    fn log(&mut self, level: log::Level, message: &str) {
        log::write(level, message);
    }

    fn cancelled(&self) -> bool {
        control::cancelled()
    }
}
