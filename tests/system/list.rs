//! `zim-batch list`, killed and resumed, and in pipes.

mod kills;
mod stdout;
