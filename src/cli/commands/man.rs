//! `zim-batch man`: the man page.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::args::{Cli, examples};
use crate::cli::errors::Error;
use crate::cli::output::print::print;

/// Prints the man page.
pub fn man() -> Result<ExitCode, Error> {
    let mut page = Vec::new();
    write_page(&mut page).map_err(|error| Error::Unexpected(error.to_string()))?;
    print(&String::from_utf8_lossy(&page))
}

/// Writes one page: the program, then each command with its options and examples.
fn write_page(page: &mut Vec<u8>) -> io::Result<()> {
    let command = Cli::command().subcommand_value_name("command");
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let commands = || command.get_subcommands().filter(|sub| sub.get_name() != "help");
    writeln!(page, ".SH COMMANDS")?;
    for sub in commands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", sub.get_name(), about.replace('-', "\\-"))?;
    }
    render_end(command.clone().after_help(examples::FIRST_STEPS), "EXAMPLES", page)?;
    render_end(command.clone().after_help(examples::EXIT_STATUS), "EXIT STATUS", page)?;
    for sub in commands() {
        let name = format!("zim-batch {}", sub.get_name());
        let man = Man::new(sub.clone().bin_name(name.clone()));
        writeln!(page, ".SH {}", name.to_uppercase())?;
        man.render_description_section(page)?;
        man.render_synopsis_section(page)?;
        man.render_options_section(page)?;
        render_end(sub.clone(), "EXAMPLES", page)?;
    }
    man.render_version_section(page)
}

/// Writes the text at the end of a help as a section, without a first line that says the same as the heading.
fn render_end(command: Command, heading: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut section = Vec::new();
    Man::new(command).render_extra_section(&mut section)?;
    let mut section = String::from_utf8_lossy(&section).replacen(".SH EXTRA", &format!(".SH {heading}"), 1);
    for line in ["\nExamples:\n\n", "\nExamples:\n", "\nExit status:\n"] {
        section = section.replacen(line, "\n", 1);
    }
    page.write_all(section.as_bytes())
}
