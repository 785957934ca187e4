# `alexnet serve` of an exported file, without torch: docs/serve.md says how to use it
FROM python:3.13-slim AS build
RUN python -m venv /opt/alexnet
ENV PATH=/opt/alexnet/bin:$PATH
# the packages of docs/export.md, bounded by what they need of each other
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir numpy pillow platformdirs rich onnxruntime \
    fastapi uvicorn python-multipart prometheus-client
WORKDIR /alexnet
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
COPY --from=build /opt/alexnet /opt/alexnet
ENV PATH=/opt/alexnet/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["alexnet", "serve", "--host", "0.0.0.0"]
CMD ["/model.onnx"]
