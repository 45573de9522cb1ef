#![doc = include_str!("../README.md")]

pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod export;
pub mod facade;
pub mod http;
pub mod intake;
pub mod jobs;
pub mod pages;
pub mod rules;
pub mod security;
pub mod serve;
pub mod telemetry;
