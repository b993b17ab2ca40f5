"""The kinds of bad input, by name."""

from helpers.kinds_of_checkpoints import (
    altered_checkpoint,
    damaged_checkpoint,
    foreign_checkpoint,
    others_checkpoint,
)
from helpers.kinds_of_files import bad_data, bad_file, read_genotype, strange_path, use_genotype
from helpers.kinds_of_options import command_options, memory_options, training_options
from helpers.trying import Property

BAD: dict[str, Property] = {
    "genotypes, read": read_genotype,
    "genotypes, used": use_genotype,
    "paths": strange_path,
    "data and dictionaries": bad_data,
    "tables, logs, events, histories": bad_file,
    "checkpoints, damaged": damaged_checkpoint,
    "checkpoints, altered": altered_checkpoint,
    "checkpoints, foreign": foreign_checkpoint,
    "checkpoints, of another model": others_checkpoint,
    "options of trainings": training_options,
    "options of commands": command_options,
    "options of plans": memory_options,
}
