"""Packaging of the DARTSformer plugin for fairseq."""

from setuptools import find_packages, setup

EXPORT = [
    "onnx>=1.23,<2",
    "onnxruntime>=1.32,<2",
    "onnxscript>=0.7.2,<0.8",
    "safetensors>=0.8,<1",
]

setup(
    name="fairseq-dartsformer",
    version="0.2.0",
    description="DARTSformer for fairseq: differentiable architecture search for Transformers "
    "on reversible networks",
    author="The DARTSformer for fairseq authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["fairseq_dartsformer*"]),
    package_data={"fairseq_dartsformer.report": ["page.html", "page.css"]},
    install_requires=[
        "torch>=2.11,<2.14",
        "fairseq-fixed==0.12.3.1",
        "jinja2>=3.1,<4",
        "matplotlib>=3.9,<4",
        "sacrebleu>=2.3,<3",
        "sacremoses>=0.1,<0.3",
        "sentencepiece>=0.2,<0.3",
        "subword-nmt>=0.3.8,<0.4",
        "tensorboardX>=2.6,<3",
    ],
    extras_require={
        "export": EXPORT,
        "dev": [
            *EXPORT,
            "furo>=2025.7",
            "hypothesis>=6.100,<7",
            "import-linter>=2.1,<3",
            "ipykernel>=6.29,<8",
            "myst-nb>=1.3,<2",
            "nbclient>=0.10,<0.12",
            "pytest>=8.3,<10",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.17,<0.18",
            "scipy>=1.13,<2",
            "sphinx>=8.1,<10",
        ],
    },
    entry_points={
        "console_scripts": [
            "dartsformer-average=fairseq_dartsformer.cli.average:cli_main",
            "dartsformer-derive=fairseq_dartsformer.cli.derive:cli_main",
            "dartsformer-evolve=fairseq_dartsformer.cli.evolve:cli_main",
            "dartsformer-export=fairseq_dartsformer.cli.export:cli_main",
            "dartsformer-latency=fairseq_dartsformer.cli.latency:cli_main",
            "dartsformer-memory=fairseq_dartsformer.cli.memory:cli_main",
            "dartsformer-parameters=fairseq_dartsformer.cli.parameters:cli_main",
            "dartsformer-plot=fairseq_dartsformer.cli.plot:cli_main",
            "dartsformer-report=fairseq_dartsformer.cli.report:cli_main",
        ]
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
