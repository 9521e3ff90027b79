//! What runs are worth, from tables and at random; what a site says; what a service file may not say.

mod files;
mod levels;
mod published;
mod scene;
mod selection;
