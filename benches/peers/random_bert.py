"""An encoder of BERT-base's shape with random weights, for measurements that do not depend on them.

    python random_bert.py MODEL_DIR OUT

The tokenizer comes from MODEL_DIR, a sentence-transformers directory. Writes about 440 MB.
"""
import shutil
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

if len(sys.argv) != 3:
    sys.exit(__doc__)
source, out = map(Path, sys.argv[1:])
torch.manual_seed(0)
BertModel(BertConfig()).save_pretrained(out)
for path in [*source.glob("*token*"), *source.glob("vocab*")]:
    shutil.copy(path, out)
