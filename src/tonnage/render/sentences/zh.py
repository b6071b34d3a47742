"""Chinese."""

from __future__ import annotations

SENTENCES = {
    "activation": "激活函数：对每个数值计算 {name}，无可学习参数",
    "adaptive_average_pooling": "平均池化：无论输入多大，输出均为 {size}",
    "attention": "注意力，{heads} 个头，每头维度 {head_size}：查询、键、值各 {heads} x {head_size} = {inner} 维，"
    "查询由 {width} 维投影得到",
    "average_pooling": "平均池化：取每个 {kernel} 窗口的平均值",
    "average_pooling_sized": "平均池化：取每个 {kernel} 窗口的平均值；输出尺寸 {size}",
    "batch_norm": "批归一化：{channels} 个通道各自在批内归一化为均值 0、方差 1，再缩放和平移，"
    "2 x {channels} = {parameters} 个参数；滑动均值和方差存为缓冲区",
    "batch_norm_frozen": "批归一化：{channels} 个通道，全部冻结为缓冲区，无可学习参数",
    "classifier": "分类头：由 {width} 个特征得到 {classes} 个类别的得分，{arithmetic} = {parameters} 个参数",
    "convolution": "卷积：{inputs} 通道到 {outputs} 通道，卷积核 {kernel}；{arithmetic} = {parameters} 个参数",
    "convolution_sized": "卷积：{inputs} 通道到 {outputs} 通道，卷积核 {kernel}；{arithmetic} = {parameters} 个参数；"
    "输出尺寸 {size}",
    "cross_attention": "交叉注意力，{heads} 个头，每头维度 {head_size}：查询来自本序列，键和值来自另一序列，"
    "各为 {width} -> {heads} x {head_size} = {inner}",
    "cross_block": "Transformer 块：自注意力、交叉注意力和前馈网络 {width} -> {inner} -> {width}；{parameters} 个参数",
    "decoder_stack": "解码器：{blocks} 个 {type} 块依次堆叠，共 {parameters} 个参数",
    "depthwise_convolution": "深度卷积：{inputs} 个通道各自卷积，卷积核 {kernel}；{arithmetic} = {parameters} 个参数，"
    "输出 {outputs} 通道",
    "depthwise_convolution_sized": "深度卷积：{inputs} 个通道各自卷积，卷积核 {kernel}；"
    "{arithmetic} = {parameters} 个参数，输出 {outputs} 通道；输出尺寸 {size}",
    "dropout": "随机失活：训练时以 {rate} 的概率将数值置零，推理时不起作用",
    "dropout_off": "随机失活：概率为 0，不起作用",
    "embedding": "嵌入表：{rows} 个 {width} 维向量，{rows} x {width} = {parameters} 个参数",
    "encoder_stack": "编码器：{blocks} 个 {type} 块依次堆叠，共 {parameters} 个参数",
    "expert_block": "Transformer 块：注意力，其后以专家代替单个前馈网络，每个词元选用 {experts} 个专家中的 {picked}"
    " 个；{parameters} 个参数",
    "experts": "专家：{experts} 个前馈网络，各 {each} 个参数，共 {parameters} 个；每个词元经过其中 {picked} 个，"
    "即实际参与计算的为 {active} 个参数",
    "feed_forward": "前馈网络：{width} -> {inner} -> {width}，对每个位置单独计算；{parameters} 个参数",
    "feed_forward_with": "前馈网络：{width} -> {inner} -> {width}，中间为 {activation}，对每个位置单独计算；"
    "{parameters} 个参数",
    "fixed_position_embedding": "位置嵌入：{rows} x {width} = {parameters} 个数，预先设定，不参与学习",
    "gated_cross_block": "Transformer 块：自注意力、交叉注意力和门控前馈网络 {width} -> 2 x {inner} -> {width}；"
    "{parameters} 个参数",
    "gated_feed_forward": "门控前馈网络：{width} -> 2 x {inner}，一半作为另一半的门控，再 {inner} -> {width}；"
    "权重 3 x {width} x {inner}，{parameters} 个参数",
    "gated_feed_forward_with": "门控前馈网络：{width} -> 2 x {inner}，一半经 {activation} 后与另一半相乘，"
    "再 {inner} -> {width}；权重 3 x {width} x {inner}，{parameters} 个参数",
    "gated_transformer_block": "Transformer 块：注意力和门控前馈网络 {width} -> 2 x {inner} -> {width}；"
    "{parameters} 个参数",
    "global_average_pooling": "全局平均池化：无论输入多大，每个通道取一个平均值",
    "group_norm": "组归一化：{channels} 个通道分为 {groups} 组，每组 {each} 个，各组归一化为均值 0、方差 1，"
    "再缩放和平移，2 x {channels} = {parameters} 个参数",
    "grouped_convolution": "分组卷积：{inputs} 通道到 {outputs} 通道，分为 {groups} 组，卷积核 {kernel}；"
    "{arithmetic} = {parameters} 个参数",
    "grouped_convolution_sized": "分组卷积：{inputs} 通道到 {outputs} 通道，分为 {groups} 组，卷积核 {kernel}；"
    "{arithmetic} = {parameters} 个参数；输出尺寸 {size}",
    "grouped_query_attention": "分组查询注意力：{heads} 个查询头，每头维度 {head_size}，每 {group} 个查询头共用"
    " {kv_heads} 个键值头中的一个；查询 {width} -> {heads} x {head_size} = {inner}，"
    "键和值 {width} -> {kv_heads} x {head_size} = {kv_inner}",
    "gru": "GRU：{inputs} -> {hidden}，层数 {layers}，方向数 {directions}；3 个门，首层单方向 {arithmetic} = {first}；"
    "共 {parameters} 个参数",
    "language_model_head": "语言模型头：由 {width} 维得到 {vocabulary} 个词元各自的得分，自有 {parameters} 个参数",
    "layer_norm": "层归一化：将 {width} 个数值归一化为均值 0、方差 1，再缩放和平移，2 x {width} = {parameters} 个参数",
    "layer_norm_no_bias": "层归一化：将 {width} 个数值归一化为均值 0、方差 1，再缩放，{width} 个参数；无平移",
    "layer_norm_plain": "层归一化：将 {width} 个数值归一化为均值 0、方差 1，无可学习参数",
    "lstm": "LSTM：{inputs} -> {hidden}，层数 {layers}，方向数 {directions}；4 个门，首层单方向"
    " {arithmetic} = {first}；共 {parameters} 个参数",
    "max_pooling": "最大池化：取每个 {kernel} 窗口的最大值",
    "max_pooling_sized": "最大池化：取每个 {kernel} 窗口的最大值；输出尺寸 {size}",
    "multi_query_attention": "多查询注意力：{heads} 个查询头，每头维度 {head_size}，共用 {kv_heads} 个键值头；"
    "查询 {width} -> {heads} x {head_size} = {inner}，键和值 {width} -> {kv_inner}",
    "patch_embedding": "图块嵌入：将图像切成 {patch} 的图块，{channels} 个通道，每块变为 {width} 维向量；"
    "{arithmetic} = {parameters} 个参数",
    "patch_embedding_sized": "图块嵌入：将 {image} 的图像切成 {patch} 的图块，{channels} 个通道，"
    "得到 {grid} = {patches} 个 {width} 维向量；{arithmetic} = {parameters} 个参数",
    "pooler": "池化层：取首个词元的向量，经线性层 {width} -> {width} 和 {activation}；{parameters} 个参数",
    "position_embedding": "位置嵌入：每个位置有一个可学习的 {width} 维向量，{rows} x {width} = {parameters} 个参数",
    "relative_position_bias": "相对位置偏置：{heads} 个头各有一个加到注意力得分上的数，按距离分入 {buckets} 个桶；"
    "{buckets} x {heads} = {parameters} 个参数",
    "residual_block": "残差块：卷积 {convolutions}，{inputs} 通道到 {outputs} 通道，再与输入相加",
    "residual_block_projected": "残差块：卷积 {convolutions}，{inputs} 通道到 {outputs} 通道；"
    "输入经 {shortcut} 卷积变为同样大小后相加",
    "rms_norm": "均方根归一化：将 {width} 个数值除以其均方根，再缩放，{width} 个参数",
    "rnn": "RNN：{inputs} -> {hidden}，层数 {layers}，方向数 {directions}；首层单方向 {arithmetic} = {first}；"
    "共 {parameters} 个参数",
    "rotary": "旋转位置编码：将每头的 {size} 维两两分为 {pairs} 对，按位置旋转相应角度；无可学习参数",
    "router": "路由：由 {width} 维得到 {experts} 个专家各自的得分，词元交给得分最高的 {picked} 个专家；"
    "{experts} x {width}，{parameters} 个参数",
    "segment_embedding": "段嵌入：区分词元属于 {rows} 段中的哪一段，{rows} x {width} = {parameters} 个参数",
    "self_attention": "自注意力，{heads} 个头，每头维度 {head_size}：查询、键、值各为"
    " {width} -> {heads} x {head_size} = {inner}",
    "ssm_mixer": "状态空间混合层：{width} -> 2 x {inner}，其中一半用作门控；对 {kernel} 个词元做卷积；"
    "再为 {inner} 个通道各保持 {state} 个数的状态，{inner} x {state} = {states}，步长、输入和输出由词元决定"
    "（{rank} + 2 x {state} = {selected}）",
    "stack": "{blocks} 个 {type} 块依次堆叠，共 {parameters} 个参数",
    "tied_embedding": "嵌入表：与 {same} 是同一张表，{rows} x {width}，已在该处计数",
    "tied_language_model_head": "语言模型头：由 {width} 维得到 {vocabulary} 个词元各自的得分；权重共享：即 {same}，"
    "已在该处计数",
    "token_embedding": "词嵌入：{rows} 个词元各有一个可学习的 {width} 维向量，{rows} x {width} = {parameters} 个参数",
    "transformer_block": "Transformer 块：注意力和前馈网络 {width} -> {inner} -> {width}；{parameters} 个参数",
    "transposed_convolution": "转置卷积：{inputs} 通道到 {outputs} 通道，卷积核 {kernel}；"
    "{arithmetic} = {parameters} 个参数",
    "transposed_convolution_sized": "转置卷积：{inputs} 通道到 {outputs} 通道，卷积核 {kernel}；"
    "{arithmetic} = {parameters} 个参数；输出尺寸 {size}",
    "vision_positions": "在 {patches} 个图块之前加一个可学习的分类词元，{patches} + 1 = {positions} 个位置各有一个"
    "可学习的位置向量：({positions} + 1) x {width} = {parameters} 个参数",
    "window_bias": "相对位置偏置：{heads} 个头各为 {window} 窗口内的每种相对位移设一个数：{offsets}，"
    "乘以 {heads} = {parameters} 个参数",
}

DIFFERENCES = {
    "alone_one": "唯独{who}：{items}",
    "alone_many": "唯独{who}：{items}",
    "shared_one": "{who}：{items}",
    "shared_many": "{who}：{items}",
    "has": "有 {name}{size}",
    "lacks": "没有 {name}",
    "is": "{name} 为 {mine} 而非 {theirs}",
    "size": "{name} 为 {mine} 而非 {theirs}",
    "fact": "{name} 为 {mine} 而非 {theirs}",
    "size_of_tensor": " {shape} = {parameters}",
    "size_of_module": "（{parameters} 个参数）",
    "comma": "，",
    "semicolon": "；",
    "otherwise": "其余与 {like} 相同",
}

WORDS = {
    "block_one": "第 {numbers} 块",
    "block_many": "第 {numbers} 块",
    "layer_one": "第 {numbers} 层",
    "layer_many": "第 {numbers} 层",
    "module": "模块",
    "output": "输出形状",
    "parameters": "参数",
    "share": "占比",
    "macs": "MACs",
    "kept": "保留激活",
    "dtype": "类型",
    "total": "{parameters} 个参数（{short}），每个只计一次",
    "tied": "另有 {tied} 个以第二个名称出现（权重共享）",
    "buffers": "缓冲区中有 {buffers} 个数",
    "folds": "“N x 类型”一行代表 N 个相同的块：参数为单个块的数量，占比及其右侧各列为全部块合计",
    "kept_note": "保留激活：前向计算结束时为反向传播保留的激活值",
    "kept_outside": "模型各模块之外（如损失函数）保留的激活值：{size}",
    "at_least": ">= 表示其中有些运算没有计算规则，未计入",
    "other_shapes": "{mark} 表示其他调用或其他块的输出形状不同",
    "nothing": "不起作用的模块（Identity）不单独列出",
    "what": "各部分是什么",
    "also": "{path} 及另外 {more} 处",
}
