# The commands that a person types and that CI calls. `just --list` shows them; without
# `just`, each is a script of its own name in scripts/.

# Build the binary and start a lab.
up *arguments:
    cargo run --release -- up {{arguments}}

# Everything that CI checks, on a fresh machine too.
test:
    ./test

# Format, lints, the repository's own rules.
check:
    scripts/check

# The tests only.
nextest *arguments:
    cargo nextest run --workspace {{arguments}}
