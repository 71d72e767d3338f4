# The gateway in one image: a virtual environment from the lock file (hashes checked, wheels only), nothing else.
#
#   docker build -t smsgw .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --ulimit core=0 \
#     --stop-timeout 40 -v smsgw-data:/var/lib/smsgw -v ./config:/etc/smsgw:ro --env-file secrets.env \
#     -p 127.0.0.1:8080:8080 smsgw
#
# In a container api.listen is "0.0.0.0:8080"; leave admin.listen on 127.0.0.1 unless its network is yours alone.
# `--stop-timeout 40`: a stop waits for the carriers' answers, at most 35 s. `core=0`: a core dump holds texts.

FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/smsgw
COPY requirements.txt .
RUN /opt/smsgw/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY config ./config
COPY gateway ./gateway
RUN pip install --no-cache-dir setuptools==80.9.0 \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/smsgw/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl \
    && /opt/smsgw/bin/python -m compileall -q /opt/smsgw

FROM python:3.12-slim
RUN groupadd --system --gid 10001 smsgw \
    && useradd --system --uid 10001 --gid smsgw --home-dir /var/lib/smsgw --shell /usr/sbin/nologin smsgw \
    && install -d -m 0700 -o smsgw -g smsgw /var/lib/smsgw
COPY --from=build /opt/smsgw /opt/smsgw
ENV PATH=/opt/smsgw/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SMSGW_LOG_FORMAT=json
# By number: an orchestrator that forbids root can see that it is none.
USER 10001:10001
# `store.data_dir = "var"` lies below it: records, the append-only file, the store's Unix socket.
WORKDIR /var/lib/smsgw
VOLUME /var/lib/smsgw
EXPOSE 8080
STOPSIGNAL SIGTERM
# Alive, not ready: an orchestrator that restarts a gateway because its store is loading makes it load again.
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/livez', timeout=2)"]
CMD ["smsgw", "run", "--config", "/etc/smsgw"]
