# One file for the three programs; `--target` says which:
#   docker build --target user-service .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# Compiled for quick rebuilds, not for the last few percent of speed: in pieces, and with
# what was known of the pieces before. A change to the innermost library takes 10 s, not 100.
ENV CARGO_INCREMENTAL=1 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
COPY . .
# The two caches outlive every image, so that after a change only what changed is compiled.
# A cache is not part of a layer: what the images need is copied out of it in the same step.
# That is the programs and, under their own paths, the shared libraries they are linked to.
#
# All checkouts on a machine share the second cache, and cargo compares times only: an older
# checkout would get the programs of a newer one. So the cache keeps the checksums of what was
# compiled into it. What differs from them, or is gone, is made new, with its folder, and all
# else old. While it builds, it keeps only those that are right however far it comes.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=resilience-target,target=/src/target,sharing=locked \
    export LC_ALL=C known=target/sources.sha256 \
    && touch $known \
    && find . -path ./target -prune -o -type f -exec sha256sum {} + | sort >/tmp/sources \
    && find . -path ./target -prune -o -exec touch --date=2000-01-01 {} + \
    && comm -3 $known /tmp/sources | sed 's/.*  //' >/tmp/changed \
    && sed 'p; s,/[^/]*$,,' /tmp/changed | xargs --no-run-if-empty --delimiter='\n' touch --no-create \
    && comm -12 $known /tmp/sources >/tmp/same && cp /tmp/same $known \
    && cargo build --locked --release --workspace --exclude simulation --bins \
    && cp /tmp/sources $known \
    && mkdir -p /out/bin /out/root /out/empty \
    && cp target/release/user-service target/release/order-service target/release/load-test /out/bin/ \
    && ldd /out/bin/* | grep -o '/lib[^ ]*' | sort -u | xargs -I{} cp --dereference --parents {} /out/root/

# No shell, no package manager, no files but these: nothing to update, nothing to misuse.
FROM scratch AS base
COPY --from=build /out/root/ /
USER 65532:65532
# Inside a container the loopback address is of no use to anybody else.
ENV HOST=0.0.0.0
STOPSIGNAL SIGTERM

FROM base AS user-service
COPY --from=build /out/bin/user-service /user-service
# Empty, and the program's own: a volume that is mounted here takes its owner over.
COPY --from=build --chown=65532:65532 /out/empty /data
EXPOSE 50051 9051
ENTRYPOINT ["/user-service"]

FROM base AS order-service
COPY --from=build /out/bin/order-service /order-service
# Empty, and the program's own: a volume that is mounted here takes its owner over.
COPY --from=build --chown=65532:65532 /out/empty /data
EXPOSE 50052 9052
ENTRYPOINT ["/order-service"]

FROM base AS load-test
COPY --from=build /out/bin/load-test /load-test
# Empty, and the program's own: a volume that is mounted there takes its owner over.
COPY --from=build --chown=65532:65532 /out/empty /reports
COPY --from=build --chown=65532:65532 /out/empty /targets
EXPOSE 9053
ENTRYPOINT ["/load-test"]
